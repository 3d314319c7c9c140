"""What a model took in whole numbers its files take in the same, whatever became of the graph."""

import numpy as np
import pytest

from tasks.contract.errors import ModelError
from tasks.contract.named import packed
from tasks.data.heads import Head
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.slimline_pyfunc import Tensors, open_file
from tasks.keras_graph.own_types import unfit
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.fake_quantization import fake_quantized

TARGETS = ("onnxruntime", "litert", "savedmodel")
HEADS = (Head(problem="classification", output_shape=(3,)),)
TYPES = {"ids": "int32", "seen": "uint8", "told": "bool", "facts": "float32"}


def brought(ids="int32"):
    """A model as Keras users build it, with a type of its own at each input."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    words = tf.keras.Input((6,), dtype=ids, name="ids")
    seen = tf.keras.Input((8, 8, 3), dtype="uint8", name="seen")
    told = tf.keras.Input((5,), dtype="bool", name="told")
    facts = tf.keras.Input((4,), name="facts")
    parts = [
        layers.GlobalAveragePooling1D()(layers.Embedding(50, 8, embeddings_initializer="normal")(words)),
        layers.Flatten()(layers.Conv2D(4, 3, strides=3, activation="relu")(layers.Rescaling(1 / 255)(seen))),
        tf.cast(told, tf.float32),
        facts,
    ]
    x = layers.Dense(16, activation="relu")(layers.Concatenate()(parts))
    return tf.keras.Model([words, seen, told, facts], layers.Dense(3, activation="softmax")(x))


def examples(count=64):
    draw = np.random.default_rng(0)
    return {
        "ids": draw.integers(0, 50, (count, 6)),
        "seen": draw.integers(0, 256, (count, 8, 8, 3)),
        "told": draw.integers(0, 2, (count, 5)),
        "facts": draw.normal(size=(count, 4)),
    }


def as_data(given):
    """Examples as data sets have them: float32."""
    return packed({name: values.astype(np.float32) for name, values in given.items()})


@pytest.fixture(scope="module")
def taken():
    """The model behind the door, its examples, and what it answered as it came."""
    model, given = brought(), examples()
    own = model.predict([given[name].astype(dtype) for name, dtype in TYPES.items()], verbose=0)
    shapes = {name: values.shape[1:] for name, values in given.items()}
    return keras.fitted(model, shapes, HEADS, "model.h5", "teacher.model"), given, own


def in_files(place, given):
    """The types that a file takes, and what it answers to examples of these, asked as MLflow does."""
    file = open_file(place, {})
    return {end.name: end.dtype for end in file.inputs}, Tensors(file).predict(given)["probabilities"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_files_take_what_the_model_took(taken, target, precision, tmp_path):
    model, given, own = taken
    x, form = as_data(given), FORMATS[target]
    keras.write(model, tmp_path)  # as each stage does, and the next one reads
    model = keras.load(tmp_path)
    expected = own
    if precision == "int8":
        model = fake_quantized(model, x)
        expected = model.predict([x[name] for name in x.dtype.names], verbose=0)
        assert np.abs(expected - own).max() < 0.02
    folder = tmp_path / "file"
    folder.mkdir()
    form.write(model, folder, precision, classes=())
    most = 1e-6 if precision == "float32" else 2.5 / 256  # steps of a softmax, after those of a concatenation
    types, answers = in_files(folder / form.FILE if target != "savedmodel" else folder, given)
    assert types == TYPES
    np.testing.assert_allclose(answers, expected, atol=most)
    np.testing.assert_array_equal(form.load(folder)(x), answers)  # as data come
    assert form.audit(folder, x[:1]).kernels


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_ranges_are_set_by_examples_in_these_types(taken, target, tmp_path):
    model, given, own = taken
    FORMATS[target].calibrate(
        model, tmp_path, as_data(given), CalibrationConfig(examples=64, method="minmax", percentile=100), classes=()
    )
    types, answers = in_files(tmp_path / FORMATS[target].FILE, given)
    assert types == TYPES
    np.testing.assert_allclose(answers, own, atol=0.03)


def test_float16_files_and_ids_of_64_bits(tmp_path):
    given = examples()
    model = brought("int64")
    own = model.predict([given[name].astype(dtype) for name, dtype in {**TYPES, "ids": "int64"}.items()], verbose=0)
    shapes = {name: values.shape[1:] for name, values in given.items()}
    model = keras.fitted(model, shapes, HEADS, "model.h5", "teacher.model")
    for target in ("onnxruntime", "litert"):
        (tmp_path / target).mkdir()
        FORMATS[target].write(model, tmp_path / target, "float16", classes=())
        types, answers = in_files(tmp_path / target / FORMATS[target].FILE, given)
        assert types == {**TYPES, "ids": "int64"}
        np.testing.assert_allclose(answers, own, atol=2e-3)


def test_a_cast_of_the_models_own_stays_its_own(tmp_path):
    """It took floats as it came, and takes them still."""
    import tensorflow as tf

    inputs = tf.keras.Input((6,))
    x = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(50, 2)(tf.cast(inputs, tf.int32)))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3, activation="softmax")(x))
    model = keras.fitted(model, {"": (6,)}, HEADS, "model.h5", "teacher.model")
    FORMATS["onnxruntime"].write(model, tmp_path, "float32", classes=())
    (end,) = open_file(tmp_path / "model.onnx", {}).inputs
    assert end.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ids", 2.5, "takes int32 at its input 'ids', and the data have 2.5 there: whole numbers from -16,777,216"),
        ("ids", 2**24 + 2, "the data have 16777218 there"),
        ("seen", 256, "takes uint8 at its input 'seen', and the data have 256 there: whole numbers from 0 to 255"),
        ("seen", -1, "the data have -1 there"),
        ("told", 2, "takes bool at its input 'told', and the data have 2 there"),
    ],
)
def test_values_that_its_types_do_not_hold_are_told(taken, name, value, told):
    model, given, _ = taken
    assert not unfit(model, as_data(given))
    changed = given[name].astype(np.float32)
    changed.flat[7] = value
    assert told in unfit(model, as_data({**given, name: changed}))


@pytest.mark.parametrize("value", [0.5, np.nan, 2**40])
def test_mlflow_is_told_of_values_that_are_none_of_its(taken, value, tmp_path):
    model, given, _ = taken
    FORMATS["onnxruntime"].write(model, tmp_path, "float32", classes=())
    wrong = given["ids"].astype(np.float64)
    wrong[3, 2] = value
    with pytest.raises(ValueError, match="ids: the model takes int32, and not all of these float64 are such"):
        Tensors(open_file(tmp_path / "model.onnx", {})).predict({**given, "ids": wrong})


def test_a_model_and_data_that_do_not_fit_are_refused_at_the_door(tmp_path):
    import tensorflow as tf

    from tasks.bring import Door, bring
    from tasks.data import DataConfig, open_data
    from tasks.zoo import ModelConfig

    draw = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=draw.uniform(0, 1, (200, 6)), y=np.arange(200) % 3)
    inputs = tf.keras.Input((6,), dtype="int32")
    x = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(50, 2)(inputs))
    tf.keras.Model(inputs, tf.keras.layers.Dense(3, activation="softmax")(x)).save(tmp_path / "model.h5")
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "data.npz")))
    door = Door(targets=("onnxruntime",), precision="float32", floor=-1, examples=0)
    refused = r"teacher\.model.*takes int32 at its input .* or build the model with a float32 Input"
    with pytest.raises(ModelError, match=refused):
        bring(ModelConfig(model=str(tmp_path / "model.h5")), data, "teacher", door, 0)
