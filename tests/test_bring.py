"""The door: models of one's own are asked as they came, and what is made of them is compared with that."""

import numpy as np
import pytest

from tasks.bring import Door, as_it_came, bring, bring_own
from tasks.contract.errors import AnswersDiffer, ModelError
from tasks.data import DataConfig, open_data
from tasks.evidence.brought_answers import kept_answers
from tasks.keras_graph.output_meaning import meaning
from tasks.prepare import prepare_data
from tasks.store.tracking import fetch
from tasks.zoo import Brought, ModelConfig

TARGETS = ("onnxruntime", "litert")
DOOR = Door(targets=TARGETS, precision="float32", floor=0, examples=0)


def through(config, data, floor=0.0):
    return bring(config, data, "teacher", DOOR.model_copy(update={"floor": floor}), 0)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> DataConfig:
    """Three classes by where four numbers lie; a network can learn them in a second."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 900)
    x = (draw.normal(0, 1, (900, 4)) + y[:, None] * np.array([3, 1, -2, 4])).astype(np.float32)
    file = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(file, x=x, y=y)
    return DataConfig(reader="npz", source=str(file), test=0.3)


@pytest.fixture(scope="module")
def data(source):
    return open_data(source)


def trained(data, end, *, scale=1.0, between=None, library=None):
    """A network that knows the classes, its end as asked for, of either Keras."""
    import tensorflow as tf

    keras = library or tf.keras
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), name="row")
    x = keras.layers.Dense(16, activation="relu", name="hidden")(inputs)
    x = between(keras.layers, x) if between else x
    model = keras.Model(inputs, end(keras, x), name="theirs")
    x, y = data.arrays("train")
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(x * scale, y, epochs=6, verbose=0)
    return model


def softmax(keras, x):
    return keras.layers.Dense(3, activation="softmax", name="out")(x)


def kept(model, tmp_path, name="model.h5") -> ModelConfig:
    model.save(tmp_path / name)
    return ModelConfig(model=str(tmp_path / name))


def test_answers_are_those_of_the_model_as_it_came(data, tmp_path):
    import keras as three

    for library, name in ((None, "model.h5"), (three, "model.keras")):
        theirs = trained(data, softmax, library=library)
        brought, answers = through(kept(theirs, tmp_path, name), data, 0)
        x, _ = data.sample("test", 0)
        np.testing.assert_allclose(answers, theirs.predict(x, verbose=0), rtol=0, atol=1e-6)
        np.testing.assert_allclose(brought.model.predict(x, verbose=0), answers, rtol=0, atol=1e-5)
        assert brought.keras.startswith("Keras 3" if library else "tf-keras 2")


def _op(keras, x):
    import tensorflow as tf

    return tf.nn.softmax(keras.layers.Dense(3)(x))


def _own(keras, x):
    import tensorflow as tf

    powers = tf.exp(keras.layers.Dense(3)(x))
    return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)


ENDS = {
    "softmax": (softmax, "probabilities"),
    "softmax as an operation": (_op, "probabilities"),
    "softmax that is reshaped": (
        lambda k, x: k.layers.Reshape((3,))(k.layers.Softmax()(k.layers.Dense(3)(x))),
        "probabilities",
    ),
    "softmax by hand": (_own, "probabilities"),
    "a sigmoid each": (lambda k, x: k.layers.Dense(3, activation="sigmoid")(x), "shares"),
    "logits": (lambda k, x: k.layers.Dense(3)(x), "logits"),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_added_to_an_end(end, data, tmp_path):
    """And what it means is known, so that training it and its log loss are right."""
    import tensorflow as tf

    from tasks.keras_graph.output_meaning import as_learned

    build, means = ENDS[end]
    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input((4,), name="row")
    theirs = tf.keras.Model(inputs, build(tf.keras, tf.keras.layers.Dense(8, activation="relu")(inputs)))
    x, _ = data.sample("test", 50)
    brought, answers = through(kept(theirs, tmp_path), data, -1)
    np.testing.assert_allclose(answers[:50], theirs(x), rtol=0, atol=1e-5)
    assert meaning(brought.model) == means
    probable = as_learned(brought.model, "classification")(x).numpy()
    np.testing.assert_allclose(probable.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probable.argmax(axis=1), answers[:50].argmax(axis=1))


def test_a_model_whose_answers_hang_on_the_batch_is_refused(data, tmp_path):
    theirs = trained(
        data, softmax, between=lambda la, x: la.BatchNormalization(name="norm")(x, training=True), scale=1.0
    )
    with pytest.raises(ModelError, match=r"teacher\.model: .*'norm' .*training=True, .* what else is in its batch"):
        through(kept(theirs, tmp_path), data, 0)


def test_a_model_that_draws_at_random_is_refused(data, tmp_path):
    theirs = trained(data, softmax, between=lambda la, x: la.Dropout(0.5, name="drop")(x, training=True))
    with pytest.raises(ModelError, match=r"'drop' .*drawn at random"):
        through(kept(theirs, tmp_path), data, 0)


def test_a_teacher_that_always_says_the_same_is_refused(data, tmp_path):
    theirs = trained(data, softmax)
    theirs.set_weights([np.zeros_like(weight) for weight in theirs.get_weights()])
    with pytest.raises(ModelError, match=r"no better than guessing .*in the same order"):
        through(kept(theirs, tmp_path), data, 0)


def test_a_teacher_that_learned_other_units_is_told_so(tmp_path):
    """Pixels divided by 255 outside of it, as many do: at 0 to 255 each of its units is at its end."""
    import tensorflow as tf

    x = np.random.default_rng(0).uniform(20, 255, (600, 3)).astype(np.float32)
    np.savez(tmp_path / "pixels.npz", x=x, y=x.argmax(axis=1))
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "pixels.npz")))
    inputs = tf.keras.Input((3,))
    model = tf.keras.Model(inputs, tf.keras.layers.Softmax()(tf.keras.layers.Activation("tanh")(inputs)))
    with pytest.raises(ModelError, match=r"guessing .* With values divided by 255 it has 1\.000: .*Rescaling"):
        through(kept(model, tmp_path), data, 0)


def test_a_floor_is_held(data, tmp_path):
    config = kept(trained(data, softmax), tmp_path)
    with pytest.raises(ModelError, match=r"teacher\.floor = 1 is not reached "):
        through(config, data, 1.0)
    through(config, data, 0.5)


def test_only_a_teacher_that_is_taken_as_it_is_has_a_floor():
    from flows.recipe import Recipe

    def floors(**teacher):
        recipe = Recipe(name="tiny", teacher={"model": "theirs.h5", "floor": 0.5, **teacher}, student={"model": "mlp"})
        return recipe.door("teacher").floor, recipe.door("student").floor

    assert floors(fit={"epochs": 0}) == (0.5, -1)
    assert floors() == (-1, -1)


def _drawing(layers, x):
    import tensorflow as tf

    return layers.Lambda(lambda t: t + tf.random.normal(tf.shape(t)))(x)


def _beside(layers, x):
    import tensorflow as tf

    return layers.Lambda(lambda t: t - tf.reduce_mean(t, axis=0, keepdims=True))(x)


def _broken(layers, x):
    return layers.Lambda(lambda t: t / (t - t))(x)


@pytest.mark.parametrize(
    ("between", "says"),
    [
        (_drawing, "otherwise each time"),
        (_beside, "asked 1 at a time it answers otherwise than many"),
        (_broken, "NaN or infinity"),
    ],
)
def test_what_hangs_on_anything_but_the_example_is_found_in_the_model_as_it_came(between, says, data):
    """Whatever its inside looks like: here in code that nobody looks into."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(between(tf.keras.layers, inputs)))
    with pytest.raises(ModelError, match=f"teacher.model: 'theirs': .*{says}"):
        as_it_came(Brought(model, model), data.arrays("test")[0], 64, "theirs", "teacher.model")


def test_a_target_that_would_be_wrong_is_refused_by_layer(data, tmp_path, monkeypatch):
    """A writer that is broken on purpose; the other target is named as the way out."""
    from tasks.formats.tflite import files as tflite

    config, write = kept(trained(data, softmax), tmp_path), tflite.write

    def broken(model, folder, precision, **how):
        weights = model.get_weights()
        if len(weights) > 3:  # only where the last layer is there
            model.set_weights([*weights[:3], weights[3] + 1 * np.array([0, 1, 0])])
        try:
            write(model, folder, precision, **how)
        finally:
            model.set_weights(weights)

    monkeypatch.setattr(tflite, "write", broken)
    with pytest.raises(AnswersDiffer, match=r"litert in float32: output 1 .* part at layer 'out' \(Dense\)") as caught:
        through(config, data, 0)
    assert "targets: [onnxruntime]" in str(caught.value)


MODULE = """
import tensorflow as tf

def build():
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3, activation="softmax", name="out")(inputs))
    model.load_weights("theirs.weights.h5")
    return model
"""


@pytest.mark.usefixtures("store", "prefect_server")
def test_a_function_counts_by_what_it_gives(source, data, tmp_path, monkeypatch):
    """Weights that it loads are new weights, whatever its own file says."""
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    (tmp_path / "brings_weights.py").write_text(MODULE)
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3, activation="softmax", name="out")(inputs))

    prepared = prepare_data(source)

    def brought():
        config = ModelConfig(model="brings_weights:build")
        return bring_own("teacher", config, prepared, DOOR.model_copy(update={"floor": -1, "examples": 40}), 0)

    model.save_weights("theirs.weights.h5")
    first, again = brought(), brought()
    assert first.sha256 == again.sha256
    answers, keras = kept_answers(fetch(first))
    np.testing.assert_allclose(answers, model.predict(data.sample("test", 40)[0], verbose=0), atol=1e-6)
    assert keras.startswith("tf-keras 2")
    model.set_weights([weight + 1 * np.arange(weight.shape[-1]) for weight in model.get_weights()])
    model.save_weights("theirs.weights.h5")
    assert brought().sha256 != first.sha256
