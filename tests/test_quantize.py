import numpy as np
import pytest
from pydantic import ValidationError

from tasks.contract.errors import ConversionError
from tasks.convert import convert
from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.parameters import is_fake_quantized
from tasks.quantize import QuantizeConfig, quantize
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Teaching, plain, supervised
from tasks.training.weight_sparsity import sparsity_by_layer


@pytest.fixture(scope="module")
def data():
    return open_data(DataConfig(limit=600))


@pytest.fixture(scope="module")
def student(data):
    """A little trained, with half of one kernel zero."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Rescaling(1 / 16, name="scale")(inputs)
    x = layers.Conv2D(12, 3, use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.9, name="norm")(x))
    x = layers.Dense(24, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
    model = tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="probabilities")(x), name="student")
    fit(
        model,
        data,
        FitConfig(epochs=8, batch_size=32, learning_rate=5e-3),
        supervised(plain("classification", 1.0)),
        seed=0,
        report=lambda *epoch: None,
    )
    kernel = model.get_layer("dense").kernel
    values = kernel.numpy()
    kernel.assign(np.where(np.abs(values) < np.median(np.abs(values)), 0, values))
    return model


def run(student, data, config, **options):
    keywords = {"teacher": student, "teaching": Teaching(), "seed": 0, "report": lambda *epoch: None, **options}
    return quantize(student, data, config, **keywords)


def accuracy(model, data):
    x, y = data.arrays("test")
    return float(np.mean(model.predict(x, verbose=0).argmax(1) == y))


def kernels(model):
    return [weight.numpy() for weight in model.weights if "kernel" in weight.name and weight.shape.rank > 1]


TRAINING = QuantizeConfig(
    method="training", calibration_examples=128, fit=FitConfig(epochs=2, batch_size=32, learning_rate=1e-3)
)


def test_calibration_alone_keeps_the_answers(student, data):
    quantized = run(student, data, QuantizeConfig(method="post_training", calibration_examples=128))
    assert is_fake_quantized(quantized)
    x, _ = data.arrays("test")
    assert np.mean(quantized.predict(x, verbose=0).argmax(1) == student.predict(x, verbose=0).argmax(1)) > 0.97


def test_training_moves_the_weights_and_keeps_zeros(student, data):
    quantized = run(student, data, TRAINING)
    before, after = (sparsity_by_layer(model)["dense"] for model in (student, quantized))
    assert before == after == 0.5
    calibrated = run(student, data, QuantizeConfig(method="post_training", calibration_examples=128))
    for trained, untrained in zip(kernels(quantized), kernels(calibrated), strict=True):
        assert np.abs(trained - untrained).max() > 1e-3
    assert accuracy(quantized, data) >= accuracy(student, data) - 0.05
    loose = run(student, data, TRAINING.model_copy(update={"preserve_sparsity": False}), teacher=None)
    assert sparsity_by_layer(loose)["dense"] < 0.25  # all but the weights of pixels that are never lit


def test_the_same_seed_gives_the_same_weights_and_leaves_the_student(student, data):
    before = [weight.copy() for weight in student.get_weights()]
    first, second = run(student, data, TRAINING), run(student, data, TRAINING)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))


@pytest.mark.parametrize("precision", ["dynamic", "float16"])
def test_where_the_files_do_it_the_student_comes_back(student, data, precision):
    config = QuantizeConfig(method="post_training", precision=precision)
    assert run(student, data, config) is student
    assert config.result == precision


def test_what_was_trained_runs_in_integers_with_the_same_answers(student, data, tmp_path):
    quantized = run(student, data, TRAINING)
    x, _ = data.arrays("test")
    expected = quantized.predict(x, verbose=0).argmax(1)
    for target, form in FORMATS.items():
        folder = tmp_path / target
        folder.mkdir()
        convert(quantized, target, "int8", folder, data)
        assert np.mean(form.load(folder)(x).argmax(1) == expected) >= 0.98, target
        assert form.audit(folder, x[:1]).integer_share == (target != "savedmodel"), target


def test_a_precision_that_a_target_does_not_have(student, data, tmp_path):
    with pytest.raises(ConversionError, match=r"savedmodel has no float16: .*precision \(float32, int8\)"):
        convert(student, "savedmodel", "float16", tmp_path, data)


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy"])
def test_each_toolchain_sets_its_own_ranges_where_asked(student, data, tmp_path, calibration):
    config = QuantizeConfig(
        method="post_training", ranges="own", calibration=calibration, percentile=99.9, calibration_examples=64
    )
    assert config.route == "toolchain"
    assert run(student, data, config) is student
    how = CalibrationConfig(examples=64, method=calibration, percentile=99.9)
    x, _ = data.arrays("test")
    expected = student.predict(x, verbose=0).argmax(1)
    for target in ("onnxruntime", "litert"):
        folder = tmp_path / target
        folder.mkdir()
        convert(student, target, "int8", folder, data, calibration=how)
        assert np.mean(FORMATS[target].load(folder)(x).argmax(1) == expected) >= 0.95, target
        assert FORMATS[target].audit(folder, x[:1]).integer_share == 1, target


@pytest.mark.parametrize("method", ["post_training", "mixed"])
def test_what_is_measured_is_the_nearest_of_all_calibrations(student, data, method):
    x, _ = data.arrays("test")
    expected = student.predict(x, verbose=0)

    def off(**settings):
        config = QuantizeConfig(method=method, calibration_examples=64, percentile=99, tolerance=1, **settings)
        return float(np.square(run(student, data, config).predict(x, verbose=0) - expected).mean())

    plain = {name: off(calibration=name) for name in ("minmax", "percentile", "entropy", "mse")}
    best, worst = min(plain.values()), max(plain.values())
    assert best < worst / 2, "else there is nothing to choose"
    assert off(calibration="measured") < 1.2 * best, "measured on the validation split, and asked on the test split"


@pytest.mark.parametrize("calibration", ["mse", "measured"])
def test_toolchains_know_no_such_calibration(calibration):
    with pytest.raises(ValidationError, match=rf"{calibration}.*toolchains.*minmax, percentile, entropy; .*shared"):
        QuantizeConfig(method="post_training", ranges="own", calibration=calibration)
    config = QuantizeConfig(method="auto", calibration=calibration).routes()["toolchain"]
    assert config.own_ranges is not None
    assert config.own_ranges.method == "minmax"


def test_auto_is_every_way_once():
    routes = QuantizeConfig(method="auto", calibration_examples=7).routes()
    assert list(routes) == ["float16", "dynamic", "static", "toolchain", "mixed", "training"]
    assert {config.calibration_examples for config in routes.values()} == {7}
    assert {route: config.result for route, config in routes.items()} == {
        "float16": "float16",
        "dynamic": "dynamic",
        "static": "int8",
        "toolchain": "int8",
        "mixed": "int8",
        "training": "int8",
    }
    assert list(QuantizeConfig(method="post_training").routes()) == ["static"]
    assert QuantizeConfig().routes() == {}


@pytest.mark.parametrize("method", ["training", "post_training", "mixed"])
def test_a_model_without_integer_kernels_stays_in_float(data, method):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.LSTM(10, name="lstm")(layers.Reshape((8, 8), name="rows")(inputs))
    recurrent = tf.keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="recurrent")
    left = run(recurrent, data, QuantizeConfig(method=method, calibration_examples=32))
    assert not is_fake_quantized(left)
    x, _ = data.sample("test", 10)
    np.testing.assert_allclose(left.predict(x, verbose=0), recurrent.predict(x, verbose=0), atol=1e-6)


def test_integers_of_a_file_sorted_by_class_clip_no_class(tmp_path):
    """Of the first 300 examples all were of class 0, and 8 bits cut the other class's values off."""
    import tensorflow as tf

    draw = np.random.default_rng(0)
    y = np.repeat([0, 1], 600)
    x = (draw.integers(1, 11, (1200, 4)) * np.where(y == 0, 0.1, 1)[:, None]).astype(np.float32)
    np.savez(tmp_path / "sorted.npz", x=x, y=y)
    sorted_by_class = open_data(DataConfig(reader="npz", source=str(tmp_path / "sorted.npz")))
    inputs = tf.keras.Input((4,), name="input")
    hidden = tf.keras.layers.Dense(4, activation="relu", kernel_initializer="identity", name="hidden")(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(2, activation="softmax", name="probabilities")(hidden))
    config = QuantizeConfig(method="post_training", calibration_examples=300)
    quantized = run(model, sorted_by_class, config, teacher=None)
    highest = quantized.get_layer("hidden_activation_range").quantizer_vars["max_var"].numpy()
    values = tf.keras.Model(model.inputs, hidden).predict(x[y == 1], verbose=0)
    assert (values > highest * 1.01).mean() == 0
