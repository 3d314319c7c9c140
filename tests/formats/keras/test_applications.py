"""The layers that Keras' own applications define: files of either Keras that have them, and what is made of those."""

import importlib
import inspect
import json
import pkgutil
import zipfile

import numpy as np
import pytest
from small_models import images

from tasks.contract.errors import ModelError
from tasks.formats.keras import files as format_keras
from tasks.formats.keras.applications import OWN, classes, in_plain_layers
from tasks.formats.parity import targets_apart
from tasks.keras_graph.folding import fold
from tasks.keras_graph.rebuild import kind
from tasks.quantization.fake_quantization import fake_quantized

X = images(24, (8, 8, 3)) / 255


def library(version):
    return importlib.import_module({2: "tf_keras", 3: "keras"}[version])


def settled(version):
    """Residual blocks as ConvNeXt and InceptionResNetV2 have them, each channel with a factor of its own."""
    keras, own = library(version), classes({2: "tf_keras", 3: "keras"}[version])
    keras.utils.set_random_seed(4)
    layers = keras.layers
    inputs = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    y = layers.Dense(6, name="dense")(x)
    y = own["LayerScale"](1.0, 6, name="factors")(y)
    x = layers.Add(name="sum")([x, own["StochasticDepth"](0.5, name="depth")(y)])
    x = layers.Activation("relu", name="relu")(x)
    x = own["CustomScaleLayer"](0.3, name="scaled")([x, layers.Conv2D(6, 1, name="residual")(x)])
    outputs = layers.Dense(4, name="out")(layers.GlobalAveragePooling2D(name="mean")(x))
    model = keras.Model(inputs, outputs, name="blocks")
    model.get_layer("factors").set_weights([np.array([-2, -0.5, 0, 0.25, 1, 3], np.float32)])
    return model


def assert_same(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_array_less(np.abs(actual - expected).max(axis=0), 1e-5 * np.ptp(expected, axis=0))


@pytest.mark.parametrize("version", [2, 3])
def test_these_are_all_that_applications_define(version):
    keras = library(version)
    defined = {}
    for module in pkgutil.iter_modules(importlib.import_module(f"{keras.__name__}.src.applications").__path__):
        if not module.name.endswith("_test"):
            where = importlib.import_module(f"{keras.__name__}.src.applications.{module.name}")
            members = inspect.getmembers(where, inspect.isclass)
            defined |= {name: module.name for name, member in members if member.__module__ == where.__name__}
    assert defined == OWN


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_that_has_them_is_opened_without_trust_and_made_plain(version, tmp_path):
    model = settled(version)
    model.save(tmp_path / "model.keras")
    ours = format_keras.import_model(tmp_path / "model.keras", trust=False)
    assert not any(type(layer).__name__ in OWN for layer in ours.layers)
    assert_same(ours(X), model(X))
    folded = fold(ours)
    assert [kind(layer) for layer in folded.layers if kind(layer) != "InputLayer"] == (
        ["Conv2D", "Dense", "Add", "Activation", "Conv2D", "Add", "GlobalAveragePooling2D", "Dense"]
    )
    assert_same(folded(X), model(X))
    format_keras.write(ours, tmp_path)
    assert_same(format_keras.load(tmp_path)(X), model(X))


def test_what_they_train_is_trained_and_what_they_drop_is_dropped():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    model = settled(2)
    plain = in_plain_layers(model)
    assert plain.get_layer("factors").trainable
    assert not plain.get_layer("scaled_scale").trainable
    inner = tf.keras.Model(plain.inputs, [plain.get_layer("factors").output, plain.get_layer("depth").output])
    whole, dropped = (tensor.numpy() for tensor in inner(np.repeat(X, 20, axis=0), training=True))
    kept = np.abs(dropped).reshape(len(dropped), -1).max(axis=1) > 0
    assert 0.4 < kept.mean() < 0.6  # an example whole, or not at all
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=1e-5)


def test_files_of_it_in_float_and_in_integers_answer_right():
    ours = in_plain_layers(settled(2))
    assert targets_apart(ours, ("onnxruntime", "litert"), "float32", X, len(X)) == {}
    assert targets_apart(fake_quantized(ours, X), ("onnxruntime", "litert"), "int8", X, len(X)) == {}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("module", "somebody.applications.convnext", r"asks for somebody\.applications\.convnext\.LayerScale"),
        ("registered_name", "slimline>Traced", "asks for slimline>Traced"),  # a graph of anything, under a known name
    ],
)
def test_a_file_with_another_class_of_that_name_is_refused(version, field, value, message, tmp_path):
    path = tmp_path / "model.keras"
    settled(version).save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "LayerScale":
            layer[field] = value
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match=message):
        format_keras.import_model(path, trust=False)


@pytest.mark.parametrize(("version", "way_out"), [(2, r"package\.module:function"), (3, r"as a \.keras file")])
def test_a_file_that_does_not_tell_whose_they_are_is_refused_by_name(version, way_out, tmp_path):
    settled(version).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match=f"LayerScale.*{way_out}"):
        format_keras.import_model(tmp_path / "model.h5", trust=True)


def with_class_of_ones_own(case):
    import tensorflow as tf

    layers = tf.keras.layers

    class Twice(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    class Half(tf.keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return tf.fill(shape, 0.5)

    class Cell(layers.SimpleRNNCell):
        pass

    class Thrice(Twice):
        def call(self, inputs):
            return 3 * inputs

    if case == "registered":
        tf.keras.utils.register_keras_serializable("tests")(Thrice)
    inputs = tf.keras.Input((4, 3), name="input")
    x = {
        "layer": lambda: Twice(name="mine")(inputs),
        "initializer": lambda: layers.Dense(3, kernel_initializer=Half(), name="mine")(inputs),
        "cell": lambda: layers.RNN(Cell(3), return_sequences=True, name="rnn")(inputs),
        "wrapped": lambda: layers.TimeDistributed(Twice(), name="mine")(inputs),
        "registered": lambda: Thrice(name="mine")(inputs),
        "lambda": lambda: layers.Lambda(lambda tensor: 3 * tensor, name="mine")(inputs),
    }[case]()
    return tf.keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten(name="flat")(x)), name="own")


@pytest.mark.parametrize(
    ("case", "named"), [("layer", "'mine' (Twice)"), ("initializer", "Half"), ("cell", "Cell"), ("wrapped", "Twice")]
)
def test_a_class_of_ones_own_that_no_file_could_be_opened_by_is_refused(case, named):
    with pytest.raises(ModelError) as error:
        format_keras.plain(with_class_of_ones_own(case), "mine:build", "teacher.model")
    assert named in str(error.value)
    assert "register_keras_serializable" in str(error.value)


@pytest.mark.parametrize("case", ["registered", "lambda"])
def test_a_class_of_ones_own_that_is_registered_is_kept(case, tmp_path):
    model = with_class_of_ones_own(case)
    format_keras.write(format_keras.plain(model, "mine:build", "teacher.model"), tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    assert_same(format_keras.load(tmp_path)(x), model(x))


def test_an_initializer_of_tensorflow_as_efficientnet_v2_has_needs_no_trust(tmp_path):
    import tensorflow as tf

    inputs = tf.keras.Input((4,), name="input")
    out = tf.keras.layers.Dense(3, bias_initializer=tf.constant_initializer(0.5), name="out")
    model = tf.keras.Model(inputs, out(inputs), name="constant")
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for ours in (format_keras.import_model(tmp_path / "model.keras", trust=False), format_keras.plain(model, "m", "m")):
        format_keras.write(ours, tmp_path)
        assert_same(format_keras.load(tmp_path)(x), model(x))


def test_inception_resnet_in_an_h5_file_of_keras_2_asks_for_trust(tmp_path):
    import tensorflow as tf

    inputs = tf.keras.Input((8, 8, 3), name="image")
    scaled = classes()["CustomScaleLayer"](0.3, name="scaled")
    outputs = scaled([inputs, tf.keras.layers.Conv2D(3, 1, name="residual")(inputs)])
    outputs = tf.keras.layers.GlobalAveragePooling2D(name="mean")(outputs)
    model = tf.keras.Model(inputs, outputs, name="inception")
    model.save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match=r"Custom>CustomScaleLayer.*trust: true"):
        format_keras.import_model(tmp_path / "model.h5", trust=False)
    assert_same(format_keras.import_model(tmp_path / "model.h5", trust=True)(X), model(X))
