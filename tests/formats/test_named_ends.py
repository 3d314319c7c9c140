"""Files of models with several named inputs and outputs: what each gives is what Keras does, under the data's names."""

from pathlib import Path

import numpy as np
import pytest
from named_ends import examples, heads, several, shapes
from small_models import settle_norms

from tasks.contract.named import fields, ordered, packed
from tasks.data.heads import Head
from tasks.formats import FORMATS, elsewhere
from tasks.formats.keras import files as keras
from tasks.formats.last_integers import onnx_visible, tflite_visible
from tasks.formats.onnx.lookups import unknown_ids
from tasks.formats.onnx.signature import signature as onnx_signature
from tasks.formats.parity import answers_apart, difference_message, first_layer_apart, sizes_apart, targets_apart
from tasks.formats.savedmodel.warmup import read_warmup
from tasks.formats.tflite.signature import signature as tflite_signature
from tasks.keras_graph.asked import asked
from tasks.keras_graph.names import signature_names
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.sensitivity import slack

NAMES = ["photo", "table", "words"], ["kind", "tags", "price"]
FILES = {"onnxruntime": "model.onnx", "litert": "model.tflite"}


@pytest.fixture(scope="module")
def x():
    return examples(count=64)


@pytest.fixture(scope="module")
def model():
    return keras.fitted(keras.plain(several(), "theirs", "model"), shapes(), heads(), "theirs", "model")


@pytest.fixture(scope="module")
def quantized(model, x):
    return fake_quantized(model, x, bias_correction=True)


@pytest.fixture(scope="module")
def sources(model, quantized):
    return {"int8": quantized}, model


def written(source, target: str, precision: str, folder: Path) -> Path:
    FORMATS[target].write(source, folder, precision, classes=())
    return folder


def off(actual, expected) -> dict[str, float]:
    """By output, the largest difference as a share of what the output spans."""
    assert sorted(actual.dtype.names) == sorted(expected.dtype.names)
    return {name: float(np.abs(actual[name] - each).max() / np.ptp(each)) for name, each in fields(expected).items()}


MACS = 64 * 27 * 8 + 9 * 72 * 8 + 4 * 6 + 20 * 8 + 2 * 64 + 8 * 3 + 8 * 2 + 10 * 4  # of all layers once, `shared` twice
WITHIN = {"float32": 1e-4, "float16": 1e-2, "dynamic": 0.1, "int8": 0.03}


@pytest.mark.parametrize(("target", "precision"), [(t, p) for t, f in FORMATS.items() for p in f.PRECISIONS])
def test_every_file_answers_as_keras_does_under_the_same_names(sources, x, target, precision, tmp_path):
    own, model = sources
    source = own.get(precision, model)
    folder = written(source, target, precision, tmp_path)
    call = FORMATS[target].load(folder)
    answers, expected = call(x), asked(source, x)
    within = WITHIN[precision] * (3 if target == "tensorrt" else 1)
    assert max(off(answers, expected).values()) < within
    by = slack(source, x) if precision == "int8" else None
    assert answers_apart(answers, expected, target, precision, by=by) is None
    assert sizes_apart(call, target, precision, x, len(x), answers, by=by) is None
    audit = FORMATS[target].audit(folder, x[:1])
    assert audit.macs == MACS
    if precision == "int8":
        assert audit.integer_share == (0 if target == "savedmodel" else 1)


def test_names_are_the_datas_whatever_becomes_of_the_model(model, quantized):
    for each in (model, quantized, keras.in_float32(model)):
        assert signature_names(each) == NAMES
    one = keras.fitted(several(outputs="kind"), shapes(), heads("kind"), "theirs", "model")
    assert signature_names(fake_quantized(one, examples())) == (NAMES[0], ["probabilities"])


def test_files_say_what_they_take_and_give(sources, tmp_path):
    own, _ = sources
    written(own["int8"], "onnxruntime", "int8", tmp_path)
    written(own["int8"], "litert", "int8", tmp_path)
    inputs, outputs = onnx_signature(tmp_path / "model.onnx")
    assert [(end.name, end.shape) for end in inputs] == [("photo", (8, 8, 3)), ("table", (4,)), ("words", (5,))]
    assert [(end.name, end.shape) for end in outputs] == [("kind", (3,)), ("tags", (4,)), ("price", (2,))]
    ends = tflite_signature(tmp_path / "model.tflite")
    assert [{(end.called, end.shape[1:]) for end in side} for side in ends] == [  # in an order of its own
        {("photo", (8, 8, 3)), ("table", (4,)), ("words", (5,))},
        {("kind", (3,)), ("price", (2,)), ("tags", (4,))},
    ]


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_a_targets_own_tools_set_ranges_by_records(model, x, target, tmp_path):
    config = CalibrationConfig(examples=64, method="minmax", percentile=99.9)
    FORMATS[target].calibrate(model, tmp_path, x, config, classes=())
    answers = FORMATS[target].load(tmp_path)(x)
    assert max(off(answers, asked(model, x)).values()) < 0.2
    assert FORMATS[target].audit(tmp_path, x[:1]).integer_share == 1
    if target == "litert":  # whose last softmax is in float
        np.testing.assert_allclose(answers["kind"].sum(axis=1), 1, atol=1e-3)


def test_integers_at_all_ends_are_read_and_given_by_name(tmp_path):
    plain = several("photo table", "tags kind")
    model = keras.fitted(plain, shapes("photo table"), heads("tags kind"), "theirs", "model")
    x = examples("photo table")
    quantized = fake_quantized(model, x)
    FORMATS["litert"].write(quantized, tmp_path, "int8", classes=(), integer_io=True)
    inputs, outputs = tflite_signature(tmp_path / "model.tflite")
    assert {end.dtype for end in (*inputs, *outputs)} == {"int8"}
    assert [{end.called for end in side} for side in (inputs, outputs)] == [{"photo", "table"}, {"kind", "tags"}]
    assert max(off(FORMATS["litert"].load(tmp_path)(x), asked(quantized, x)).values()) < 0.03


def test_serving_is_warmed_up_with_every_input(model, x, tmp_path):
    written(model, "savedmodel", "float32", tmp_path)
    FORMATS["savedmodel"].warm_up(tmp_path, x[:2])
    _, tensors = read_warmup(tmp_path)
    for name, values in fields(x[:2]).items():
        np.testing.assert_array_equal(tensors[name], values)


def test_ids_that_no_table_has_are_found_in_the_input_that_they_stand_in(model, x, tmp_path):
    written(model, "onnxruntime", "float32", tmp_path)
    check = unknown_ids(tmp_path / "model.onnx")
    assert check(x) == ""
    wrong = x.copy()
    wrong["words"][5, 2] = 7
    assert check(wrong) == "example 5 has the id 7, and 'embedding' knows the ids 0 to 6"


@pytest.mark.parametrize(("target", "visible"), [("onnxruntime", onnx_visible), ("litert", tflite_visible)])
def test_other_processors_are_asked_with_records(quantized, x, target, visible, tmp_path):
    folder = written(quantized, target, "int8", tmp_path)
    shown = visible((folder / FILES[target]).read_bytes())
    assert len(shown.scales) == 3
    order = [end.name for end in onnx_signature(folder / "model.onnx")[1]] if target == "onnxruntime" else []
    given = elsewhere.ASK[target](shown.model, x, {})
    expected = FORMATS[target].load(folder)(x)
    for name, values in zip(order, given, strict=False):
        np.testing.assert_array_equal(values, expected[name])
    for name, values in fields(expected).items():  # whatever the order of a file's tensors
        assert any(values.shape == each.shape and (values == each).all() for each in given), name


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_a_wrong_output_is_named_with_the_layer_where_they_part(model, x, target, tmp_path, monkeypatch):
    right = asked(model, x)
    assert first_layer_apart(model, target, "float32", x[:8]) == ""
    wrong = packed({name: values + (name == "tags") for name, values in fields(right).items()})
    difference = answers_apart(wrong, right, target, "float32")
    assert str(difference).startswith("output tags[")
    whole = FORMATS[target].write

    def tampered(source, folder, precision, *, classes):
        """A file in which one layer has another kernel."""
        layers = {layer.name: layer for layer in source.layers}
        kept = layers["tags"].kernel.numpy() if "tags" in layers else None
        if kept is not None:
            layers["tags"].kernel.assign(kept * 1.5)
        whole(source, folder, precision, classes=classes)
        if kept is not None:
            layers["tags"].kernel.assign(kept)

    monkeypatch.setattr(FORMATS[target], "write", tampered)
    message = difference_message(model, target, "float32", difference, x)
    assert "output tags[" in message
    assert message.endswith("they part at layer 'tags' (Dense)")


SIZES = {"t2": 4, "n": 3, "k1": 3, "v2": 2, "r": 3, "again": 3, "dr": 3, "t1": 4, "k2": 3, "v1": 2, "same": 6}


def odd():
    """Two calls of a model with two outputs, and of a layer; outputs that fold away, are one tensor, or an input."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(5)
    layers = tf.keras.layers
    i, j, within = (tf.keras.Input((6,), name=name) for name in ("i", "j", "within"))
    h = layers.Dense(5, activation="relu", name="h")(within)
    value = layers.BatchNormalization(name="in_norm")(layers.Dense(2, name="in_value")(h))
    inner = tf.keras.Model(within, [layers.Dense(3, activation="softmax", name="in_kind")(h), value], name="inner")
    twice = layers.Dense(4, activation="relu", name="twice")
    given = dict(zip(("k1", "v1", "k2", "v2", "t1", "t2"), (*inner(i), *inner(j), twice(i), twice(j)), strict=True))
    x = layers.Dense(3, name="x")(layers.Concatenate(name="both")([given["t1"], given["t2"]]))
    n = layers.BatchNormalization(name="n")(x)
    r = layers.ReLU(name="r")(n)
    given |= {"n": n, "r": r, "again": r, "dr": layers.Dropout(0.5, name="dr")(r), "same": i}
    return settle_norms(tf.keras.Model([i, j], given, name="odd"))


def test_outputs_may_be_of_any_place_in_a_graph():
    model = odd()
    named = [Head(name=name, problem="regression", output_shape=(size,)) for name, size in SIZES.items()]
    fitted = keras.fitted(keras.plain(model, "odd", "model"), {"j": (6,), "i": (6,)}, named, "odd", "model")
    assert signature_names(fitted) == (["j", "i"], list(SIZES))
    draw = np.random.default_rng(0)
    x = packed({name: draw.normal(size=(32, 6)).astype(np.float32) for name in ("j", "i")})
    answers, expected = asked(fitted, x), model.predict([x["i"], x["j"]], verbose=0)
    for name in SIZES:
        np.testing.assert_allclose(answers[name], expected[name], rtol=1e-5, atol=1e-6)
    assert targets_apart(fitted, tuple(FORMATS), "float32", x, len(x)) == {}
    quantized = fake_quantized(fitted, x)
    assert signature_names(quantized) == signature_names(fitted)
    assert targets_apart(quantized, tuple(FORMATS), "int8", x, len(x)) == {}


@pytest.mark.parametrize(("inputs", "outputs"), [("photo words", "price"), ("table", "price kind")])
def test_several_of_one_side_alone(inputs, outputs, tmp_path):
    sizes = shapes(inputs) if " " in inputs else {"": shapes()[inputs]}
    model = keras.fitted(several(inputs, outputs), sizes, heads(outputs), "theirs", "model")
    x = examples(inputs)
    expected = ordered(asked(model, x), outputs.split())
    for target in FORMATS:
        folder = tmp_path / target
        folder.mkdir()
        answers = FORMATS[target].load(written(model, target, "float32", folder))(x)
        for actual, values in zip(ordered(answers, outputs.split()), expected, strict=True):
            np.testing.assert_allclose(actual, values, rtol=1e-4, atol=1e-4)
