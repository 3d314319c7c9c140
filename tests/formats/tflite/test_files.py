import zipfile

import numpy as np
import pytest
from small_models import convolutional, images

from tasks.contract.errors import ConversionError
from tasks.formats.tflite import files as tflite
from tasks.formats.tflite.graph import TFLiteGraph
from tasks.quantization.fake_quantization import fake_quantized


@pytest.fixture(scope="module")
def model():
    return convolutional()


@pytest.fixture(scope="module")
def quantized(model):
    return fake_quantized(model, images(64))


@pytest.mark.parametrize("precision", ["float32", "dynamic", "float16"])
def test_answers_of_each_precision(model, tmp_path, precision, capfd):
    tflite.write(model, tmp_path, precision, classes=())
    x = images(100, seed=3)
    allowed = {"float32": 1e-5, "float16": 5e-3, "dynamic": 0.1}[precision]
    assert np.abs(tflite.load(tmp_path)(x) - model.predict(x, verbose=0)).max() < allowed
    assert "XNNPACK" not in capfd.readouterr().err


def test_integers_throughout(quantized, tmp_path):
    tflite.write(quantized, tmp_path, "int8", classes=())
    audit = tflite.audit(tmp_path, images(1))
    assert audit.integer_share == 1.0
    assert [layer.name for layer in audit.layers] == ["stem", "depthwise", "pointwise", "strided", "dense", "logits"]
    assert sum(layer.macs for layer in audit.layers) == audit.integer_macs == 31104 + 10368 + 9216 + 41472 + 192 + 60
    x = images(1000, seed=4)
    theirs, ours = tflite.load(tmp_path)(x), quantized.predict(x, verbose=0)
    assert np.mean(theirs.argmax(1) == ours.argmax(1)) >= 0.99


def test_probabilities_are_not_in_steps(quantized, tmp_path):
    tflite.write(quantized, tmp_path, "int8", classes=())
    answers = tflite.load(tmp_path)(images(200))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert np.abs(answers * 256 - np.rint(answers * 256)).max() > 0.1


def test_any_batch_size(quantized, tmp_path):
    tflite.write(quantized, tmp_path, "int8", classes=())
    run, x = tflite.load(tmp_path), images(7)
    np.testing.assert_allclose(np.concatenate([run(x[:1]), run(x[1:4]), run(x[4:])]), run(x), atol=1e-6)


def test_class_names_travel_inside(quantized, tmp_path):
    tflite.write(quantized, tmp_path, "int8", classes=("cat", "dog"))
    with zipfile.ZipFile(tmp_path / tflite.FILE) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert tflite.load(tmp_path)(images(2)).shape == (2, 5)


def test_int8_needs_ranges(model, tmp_path):
    with pytest.raises(ConversionError, match=r"litert in int8.*quantize.method"):
        tflite.write(model, tmp_path, "int8", classes=())


def test_integers_at_both_ends_where_asked_for(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    quantized = fake_quantized(convolutional(), images(64))
    tflite.write(quantized, tmp_path, "int8", classes=(), integer_io=True)
    interpreter = Interpreter(str(tmp_path / tflite.FILE))
    (input_,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (input_["dtype"], output["dtype"]) == (np.int8, np.int8)
    scale, zero = input_["quantization"]
    assert (scale, zero) == (pytest.approx(1, abs=0.01), -128), "a raw value is a step"
    x = images(300, seed=3)
    answers, expected = tflite.load(tmp_path)(x), quantized.predict(x, verbose=0)
    assert np.mean(answers.argmax(1) == expected.argmax(1)) >= 0.98
    assert np.abs(answers - expected).max() < 0.03
    audit = tflite.audit(tmp_path, x[:1])
    assert audit.integer_share == 1
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(audit.kernels)


def test_no_numbers_are_in_the_file_twice(quantized, tmp_path):
    """Integers that were put right take the place of those that were there."""
    from ai_edge_litert import schema_py_generated as schema

    tflite.write(quantized, tmp_path, "int8", classes=())
    model = schema.ModelT.InitFromPackedBuf((tmp_path / tflite.FILE).read_bytes())
    (graph,) = model.subgraphs
    used = {int(index) for operator in graph.operators for index in [*operator.inputs, *operator.outputs]}
    known = {graph.tensors[index].buffer for index in used} | {entry.buffer for entry in model.metadata or ()}
    full = {number for number, buffer in enumerate(model.buffers) if buffer.data is not None and len(buffer.data)}
    assert full <= known
    kernels = sum(
        weight.numpy().size for layer in quantized.layers for weight in layer.weights if "kernel:" in weight.name
    )
    constants = sum(len(model.buffers[number].data) for number in full)
    assert kernels < constants < 2 * kernels


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_inner_tensors_bear_their_layer_s_name_alone_and_each_name_is_there_once(precision, tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((9, 4), name="input")
    recurrent = tf.keras.layers.LSTM(5, name="unrolled", unroll=True)(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3, name="last")(recurrent), name="steps")
    x = np.random.default_rng(0).normal(size=(16, 9, 4)).astype(np.float32)
    tflite.write(fake_quantized(model, x) if precision == "int8" else model, tmp_path, precision, classes=())
    content = (tmp_path / tflite.FILE).read_bytes()
    graph = TFLiteGraph(content)
    ends = {*graph.inputs, *graph.outputs}
    assert all(graph.tensors[end].name.endswith(b":0") for end in ends), "by which a signature is not needed"
    inner = [tensor.name for number, tensor in enumerate(graph.tensors) if number not in ends]
    assert max(name.count(b"/") for name in inner) == 1
    assert inner.count(b"steps/unrolled") > 100, "some ten operators a step"
    assert content.count(b"steps/unrolled\0") == 1
    assert {layer.name for layer in tflite.audit(tmp_path, x[:1]).layers} == {"unrolled", "last"}


def test_zero_points_of_kernels_as_wide_are_there_once(tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((7,), name="input"),
            layers.Dense(24, "relu", name="one"),
            layers.Dense(24, "relu", name="two"),
            layers.Dense(3, name="end"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
    tflite.write(fake_quantized(model, x), tmp_path, "int8", classes=())
    content = (tmp_path / tflite.FILE).read_bytes()
    graph = TFLiteGraph(content)
    scales = [each.quantization.scale for each in graph.tensors if each.quantization is not None]
    assert sum(scale is not None and len(scale) == 24 for scale in scales) >= 2, "two kernels"
    assert content.count(np.int32(24).tobytes() + bytes(8 * 24)) == 1


def test_years_are_centred_before_they_are_multiplied(tmp_path):
    """Moved behind the product, as the converter moves sums, a thousandth of the answer is lost."""
    import tensorflow as tf

    draw = np.random.default_rng(0)
    layers = tf.keras.layers
    x = draw.uniform((2023.5, -1), (2024.5, 1), (300, 2)).astype(np.float32)
    kernel, bias, scale, offset = draw.normal(size=(2, 16)), np.ones(16), [3.5, 1.2], [-2024.0, 0.25]
    model = tf.keras.Sequential(
        [
            tf.keras.Input((2,)),
            layers.Rescaling(1.0, offset),
            layers.Rescaling(scale, 0.0),
            layers.Dense(16, weights=[kernel, bias]),
        ]
    )
    tflite.write(tf.keras.Model(model.inputs, model.outputs), tmp_path, "float32", classes=())
    right = ((x.astype(np.float64) + offset) * scale) @ kernel + bias
    assert np.abs(tflite.load(tmp_path)(x) - right).max() < 3e-6
