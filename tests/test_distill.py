import numpy as np
import pytest
from pydantic import ValidationError

from tasks.contract.errors import ModelError
from tasks.data import DataConfig, open_data
from tasks.distill import DistillConfig, distill
from tasks.train import train
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching
from tasks.zoo import ModelConfig, build_model

SHORT = FitConfig(epochs=2, batch_size=32, learning_rate=0.01)
LONG = FitConfig(epochs=15, batch_size=32, learning_rate=0.01)


def never(*_):
    pass


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=300))


@pytest.fixture(scope="module")
def teacher(digits):
    model = build_model(ModelConfig(model="mlp"), digits, seed=1)
    return train(model, digits, LONG, seed=1, report=never)


def student(data, width=0.25):
    return build_model(ModelConfig(model="mlp", width=width), data, seed=2)


def distance(one, other, data):
    x, _ = data.arrays("test")
    return float(np.abs(one(x).numpy() - other(x).numpy()).mean())


def test_a_teacher_is_left_as_it_was_and_the_student_comes_nearer(digits, teacher):
    before, flags = teacher.get_weights(), [layer.trainable for layer in teacher.layers]
    untaught = distance(student(digits), teacher, digits)
    config = DistillConfig(method="soft_targets", mix=1.0, fit=LONG)
    taught = distill(student(digits), teacher, digits, config, seed=2, report=never)
    assert distance(taught, teacher, digits) < untaught / 2
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert flags == [layer.trainable for layer in teacher.layers]


def test_no_method_learns_from_the_labels_alone(digits, teacher):
    taught = distill(student(digits), teacher, digits, DistillConfig(fit=SHORT), seed=2, report=never)
    alone = train(student(digits), digits, SHORT, seed=2, report=never)
    assert all(np.array_equal(a, b) for a, b in zip(taught.get_weights(), alone.get_weights(), strict=True))


def test_features_come_nearer_the_more_they_weigh(digits, teacher):
    import tensorflow as tf

    def apart(weight):
        layers = {"teacher_layer": "dense2_relu", "student_layer": "dense2_relu"}
        config = DistillConfig(method="features", feature_weight=weight, fit=LONG, **layers)
        taught = distill(student(digits, width=1.0), teacher, digits, config, seed=2, report=never)
        x, _ = digits.arrays("train")
        own, expected = (tf.keras.Model(m.inputs, m.get_layer("dense2_relu").output)(x) for m in (taught, teacher))
        return float(tf.reduce_mean(tf.square(own - expected)) / tf.reduce_mean(tf.square(expected)))

    assert apart(100.0) < apart(0.001) / 2


def test_a_map_between_widths_is_not_kept(digits, teacher):
    layers = {"teacher_layer": "dense1_relu", "student_layer": "dense1_relu"}
    model = student(digits)
    names = [variable.name for variable in model.weights]
    config = DistillConfig(method="features", fit=SHORT, **layers)
    taught = distill(model, teacher, digits, config, seed=2, report=never)
    assert [variable.name for variable in taught.weights] == names


def test_the_same_seed_gives_the_same_student(digits, teacher):
    config = DistillConfig(method="features", teacher_layer="dense1_relu", student_layer="dense1_relu", fit=SHORT)
    first, second = (
        distill(student(digits), teacher, digits, config, seed=2, report=never).get_weights() for _ in range(2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_layer_that_is_not_there_is_named(digits, teacher):
    config = DistillConfig(method="features", teacher_layer="dense2_relu", student_layer="dense9", fit=SHORT)
    with pytest.raises(ModelError, match=r"distill\.student_layer: 'dense9'.*dense1, dense1_relu"):
        distill(student(digits), teacher, digits, config, seed=2, report=never)


def test_features_need_layers():
    for method in ("features", "attention", "relational"):
        with pytest.raises(ValidationError, match="needs teacher_layer and student_layer"):
            DistillConfig(method=method)
    with pytest.raises(ValidationError, match="student_layer: 1 layers, and teacher_layer names 2"):
        DistillConfig(method="features", teacher_layer="a,b", student_layer="a")


@pytest.mark.parametrize("method", ["attention", "relational"])
def test_what_is_imitated_comes_nearer_the_more_it_weighs(method):
    """On images: attention is where the layers look."""
    import tensorflow as tf

    from tasks.training.hints import HINTS

    data = open_data(DataConfig(reader="digits", limit=200))
    knowing = build_model(ModelConfig(model="cnn", width=0.5), data, seed=1)
    layer = next(layer.name for layer in knowing.layers if layer.name.endswith("relu"))

    def apart(weight):
        layers = {"teacher_layer": layer, "student_layer": layer}
        config = DistillConfig(method=method, mix=0.0, feature_weight=weight, fit=LONG, **layers)
        model = build_model(ModelConfig(model="cnn", width=0.25), data, seed=2)
        taught = distill(model, knowing, data, config, seed=2, report=never)
        x, _ = data.arrays("validation")
        own, expected = (tf.keras.Model(m.inputs, m.get_layer(layer).output)(x) for m in (taught, knowing))
        return float(HINTS[method](own, expected))

    assert apart(100.0) < 0.8 * apart(0.001)


def test_the_teaching_goes_on_to_later_stages():
    assert DistillConfig(temperature=3, mix=0.4).teaching == Teaching(temperature=3, mix=0.4)
    config = DistillConfig(method="attention", teacher_layer="a, b", student_layer="c,d", feature_weight=2)
    hint = {"hint": "attention", "teacher_layers": ("a", "b"), "student_layers": ("c", "d"), "weight": 2}
    assert config.teaching == Teaching(**hint)
    defaults = DistillConfig()
    assert defaults.teaching == Teaching(), "one default for both"
