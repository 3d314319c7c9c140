import json
import os
import subprocess
import sys

import numpy as np
import pytest
import small_models
from kernel_pairs import heaviest
from small_models import convolutional, images

from tasks.contract.artifact import digest_folder
from tasks.contract.errors import ConversionError
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.lowering import rows_of
from tasks.quantization.fake_quantization import fake_quantized


@pytest.fixture(scope="module")
def model():
    return convolutional()


@pytest.fixture(scope="module")
def quantized(model):
    return fake_quantized(model, images(64))


@pytest.mark.parametrize("precision", ["float32", "dynamic", "float16"])
def test_answers_of_each_precision(model, tmp_path, precision):
    onnx.write(model, tmp_path, precision, classes=())
    x = images(100, seed=3)
    allowed = {"float32": 1e-5, "float16": 5e-3, "dynamic": 0.1}[precision]
    assert np.abs(onnx.load(tmp_path)(x) - model.predict(x, verbose=0)).max() < allowed


def test_every_multiplication_runs_in_integers(quantized, tmp_path):
    onnx.write(quantized, tmp_path, "int8", classes=())
    audit = onnx.audit(tmp_path, images(1))
    assert audit.integer_share == 1.0
    assert audit.kernels["QLinearConv"] == 4
    assert audit.kernels["QGemm"] == 2
    assert audit.kernels["QLinearAdd"] == 1
    assert audit.kernels["QLinearGlobalAveragePool"] == 1
    # values become integers once, at the start, and floats once, for the softmax
    assert (audit.kernels["QuantizeLinear"], audit.kernels["DequantizeLinear"]) == (1, 1)
    assert not {"Relu", "Add", "Mul", "Conv", "Pad"} & set(audit.kernels)
    assert [layer.name for layer in audit.layers] == ["stem", "depthwise", "pointwise", "strided", "dense", "logits"]


def test_multiply_accumulates_are_those_of_the_architecture(model, tmp_path):
    onnx.write(model, tmp_path, "float32", classes=())
    audit = onnx.audit(tmp_path, images(1))
    assert {layer.name: layer.macs for layer in audit.layers} == {
        "stem": 144 * 9 * 3 * 8,
        "depthwise": 144 * 9 * 8,
        "pointwise": 144 * 8 * 8,
        "strided": 36 * 9 * 8 * 16,
        "dense": 16 * 12,
        "logits": 12 * 5,
    }
    assert audit.integer_share == 0
    assert all(layer.kernel != "not found" and layer.why for layer in audit.layers)


def test_files_of_others_are_audited_too(model, tmp_path):
    """Operators that are integers themselves, as other tools write them, and shapes that ONNX cannot infer."""
    from onnxruntime import quantization

    onnx.write(model, tmp_path, "float32", classes=())
    own = onnx.audit(tmp_path, images(1))

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{"input": images(16)}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    file = tmp_path / onnx.FILE
    quantization.quantize_static(file, file, Reader(), quant_format=quantization.QuantFormat.QOperator)
    audit = onnx.audit(tmp_path, images(1))
    assert [(layer.name, layer.macs) for layer in audit.layers] == [(layer.name, layer.macs) for layer in own.layers]
    assert {layer.kernel for layer in audit.layers} == {"QLinearConv", "QLinearMatMul"}
    assert audit.integer_share == 1.0


def test_a_layer_in_float_is_named_with_the_reason(model, tmp_path):
    partly = fake_quantized(model, images(64), float_layers=("strided",))
    onnx.write(partly, tmp_path, "int8", classes=())
    audit = onnx.audit(tmp_path, images(1))
    assert [(layer.name, layer.why != "") for layer in audit.in_float] == [("strided", True)]
    assert 0 < audit.integer_share < 1


def test_integers_answer_as_fake_quantization_does(quantized, tmp_path):
    onnx.write(quantized, tmp_path, "int8", classes=())
    x = images(1000, seed=4)
    theirs, ours = onnx.load(tmp_path)(x), quantized.predict(x, verbose=0)
    assert np.mean(theirs.argmax(1) == ours.argmax(1)) >= 0.99
    assert np.abs(theirs - ours).max() < 0.05


def test_kernels_are_small_numbers_with_a_scale_by_channel(quantized, tmp_path):
    import onnx as library

    onnx.write(quantized, tmp_path, "int8", classes=())
    proto = library.load(tmp_path / onnx.FILE)
    constants = {tensor.name: library.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    givers = {name: node for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            steps, scales, zeros = (constants[name] for name in givers[node.input[1]].input)
            assert (steps.dtype, zeros.any()) == (np.int8, False)
            depthwise = steps.ndim == 4 and steps.shape[1] == 1
            rows = rows_of(steps, node.op_type)
            filled_up = steps.shape[1] if node.op_type == "Conv" else 1
            limit = np.abs(rows).max(axis=0) if depthwise else np.maximum(heaviest(rows), heaviest(rows, filled_up))
            full = np.abs(rows).max(axis=0) == 127
            assert np.all(full | ((limit >= 127) & (limit <= 128))), "as small as the largest weight or pair allows"
            assert scales.shape == (steps.shape[0 if node.op_type == "Conv" else 1],)
            activation = constants[givers[node.input[0]].input[2]]
            assert activation.dtype == np.uint8
            if len(node.input) > 2:
                counts, units, _ = (constants[name] for name in givers[node.input[2]].input)
                assert counts.dtype == np.int32
                np.testing.assert_allclose(units, constants[givers[node.input[0]].input[1]] * scales, rtol=1e-6)


def test_zeros_of_pruning_stay_zeros(tmp_path):
    import onnx as library

    model = convolutional()
    kernel = model.get_layer("strided").kernel.numpy()
    kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.7)] = 0
    zeros = np.mean(kernel == 0)
    model.get_layer("strided").kernel.assign(kernel)
    onnx.write(fake_quantized(model, images(32)), tmp_path, "int8", classes=())
    constants = [library.numpy_helper.to_array(t) for t in library.load(tmp_path / onnx.FILE).graph.initializer]
    (steps,) = [array for array in constants if array.dtype == np.int8 and array.shape == (16, 8, 3, 3)]
    assert np.mean(steps == 0) >= zeros > 0.69


def test_weights_are_in_a_file_once_and_as_they_are_multiplied(tmp_path):
    """tf2onnx has those of an EinsumDense once more for their shape, and reshapes others with each call."""
    import onnx as library
    import tensorflow as tf

    inputs = tf.keras.Input((6, 16))
    x = tf.keras.layers.MultiHeadAttention(4, 8, use_bias=False)(inputs, inputs)
    model = tf.keras.Model(inputs, x)
    onnx.write(model, tmp_path, "float32", classes=())
    graph = library.load(tmp_path / onnx.FILE).graph
    kernels = {tensor.name: list(tensor.dims) for tensor in graph.initializer if np.prod(tensor.dims) > 64}
    assert sum(map(np.prod, kernels.values())) == model.count_params()
    takers = [node.op_type for node in graph.node for name in node.input if name in kernels]
    assert set(takers) <= {"MatMul", "Gemm"}
    draw = np.random.default_rng(0).normal(size=(5, 6, 16)).astype(np.float32)
    np.testing.assert_allclose(onnx.load(tmp_path)(draw), model(draw).numpy(), rtol=1e-5, atol=1e-5)


def test_what_a_person_sees_of_the_file(quantized, tmp_path):
    import onnxruntime

    onnx.write(quantized, tmp_path, "int8", classes=("null", "ein\u00e4"))
    session = onnxruntime.InferenceSession(tmp_path / onnx.FILE, providers=["CPUExecutionProvider"])
    (input_,), (output,) = session.get_inputs(), session.get_outputs()
    assert (input_.name, input_.shape) == ("input", ["batch", 12, 12, 3])
    assert (output.name, output.shape) == ("probabilities", ["batch", 5])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["null", "ein\u00e4"]


def test_int8_needs_ranges(model, tmp_path):
    with pytest.raises(ConversionError, match=r"'convolutional' has no ranges.*onnxruntime in int8.*quantize.method"):
        onnx.write(model, tmp_path, "int8", classes=())
    assert not list(tmp_path.iterdir())


def test_an_operator_that_onnx_does_not_have_is_named(tmp_path, capfd):
    import tensorflow as tf

    inputs = tf.keras.Input((4,), name="input")
    outputs = tf.keras.layers.Lambda(tf.math.bessel_i0, name="odd")(inputs)
    with pytest.raises(ConversionError, match=r"layer 'odd' needs the operator BesselI0.*onnxruntime.*another target"):
        onnx.write(tf.keras.Model(inputs, outputs, name="strange"), tmp_path, "float32", classes=())
    assert capfd.readouterr() == ("", "")


PROGRAM = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from small_models import convolutional, images
from tasks.contract.artifact import digest_folder
from tasks.formats import FORMATS
from tasks.quantization.fake_quantization import fake_quantized
for place in {folders!r}:
    for target, form in FORMATS.items():
        folder = pathlib.Path(place) / target
        folder.mkdir(parents=True)
        form.write(fake_quantized(convolutional(), images(64)), folder, "int8", classes=("a", "b"))
        print(digest_folder(folder))
"""


def test_the_same_model_gives_the_same_files_in_any_process(quantized, tmp_path):
    from pathlib import Path

    from tasks.formats import FORMATS

    folders = [str(tmp_path / name) for name in ("first", "second")]
    program = PROGRAM.format(tests=str(Path(small_models.__file__).parent), folders=folders)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    digests = printed.stdout.split()
    assert digests[: len(digests) // 2] == digests[len(digests) // 2 :]
    for target, digest in zip(FORMATS, digests, strict=False):
        folder = tmp_path / "here" / target
        folder.mkdir(parents=True)
        FORMATS[target].write(quantized, folder, "int8", classes=("a", "b"))
        assert digest_folder(folder) == digest, target


def test_tells_nobody(model, tmp_path):
    """ONNX Runtime 1.32 would leave a device's number and a log that it means to send."""
    (tmp_path / "home").mkdir()
    onnx.write(model, tmp_path, "float32", classes=())
    program = f"from pathlib import Path; from tasks.formats.onnx import files; files.load(Path({str(tmp_path)!r}))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path / "home")}, check=True)
    assert list((tmp_path / "home").rglob("*")) == []
