"""The pair rule: steps as small as they can be with which no pair of weights saturates, the same in every file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_pairs import heaviest
from layer_kinds import KINDS, build

from tasks.formats import FORMATS
from tasks.formats.onnx.lowering import rows_of
from tasks.quantization.fake_quantization import custom_objects, fake_quantized
from tasks.quantization.pair_rule import LEVELS, meeting, steps
from tasks.quantization.parameters import as_rows, kernel_steps

WEIGHTS = st.floats(-4, 4, width=32)
KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=WEIGHTS)
)


def in_steps(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Conv2D's kernel as whole numbers of steps, in rows, and the size of the steps."""
    quantizer = custom_objects()["ChannelQuantizer"]((-1,), True, meeting("Conv2D", kernel.shape), LEVELS)
    size = quantizer.steps(as_rows(kernel, (-1,))).numpy()
    numbers = quantizer(kernel, False, {}).numpy().reshape(-1, kernel.shape[-1]) / size
    np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-3)
    return np.rint(numbers).astype(np.int64), size


@given(KERNELS)
@example(np.full((3, 3, 3, 1), 1.0, np.float32))
@example(np.array([63.5, 64.5], np.float32).reshape(1, 1, 2, 1))  # halves that would both be rounded up, to 129
@example(np.array([1e-6, 1.0, -1.0, 1.0], np.float32).reshape(1, 1, 4, 1))
@example(np.array([0, 0, 0, 1, 1, 0], np.float32).reshape(1, 2, 3, 1))  # meet only where channels are filled up
def test_no_pair_can_saturate_and_steps_are_no_larger_than_that_takes(kernel):
    numbers, size = in_steps(kernel)
    inner = kernel.shape[2]
    flat, filled = heaviest(numbers), heaviest(numbers, inner) if inner > 1 else 0
    assert np.abs(numbers).max() <= 127
    assert np.all(flat <= 128)
    assert np.all(filled <= 128)
    least = np.abs(numbers).max(axis=0)
    large = np.abs(kernel).max(axis=(0, 1, 2)) > 1e-6
    assert np.all((np.maximum(np.maximum(flat, filled), least) >= 127)[large])
    half = np.abs(kernel).max(axis=(0, 1, 2)) / 64
    assert np.all((size <= half * 1.0001)[large]), "never coarser than half the range for every weight"


def test_what_meets():
    assert meeting("Conv2D", (3, 3, 5, 8)) == 5
    assert meeting("Conv1D", (3, 4, 8)) == 4
    assert meeting("Dense", (7, 2)) == 7
    assert meeting("DepthwiseConv2D", (3, 3, 8, 1)) == 0
    assert meeting("DepthwiseConv2D", (3, 3, 8, 2)) == 1
    assert meeting("Conv2DTranspose", (3, 3, 5, 8)) == 0
    spaced = np.zeros((8, 1), np.float32)
    spaced[[0, 3]] = 1  # neither consecutive nor filled up: they do not meet
    assert steps(spaced, 8).numpy() == pytest.approx(1 / 127)
    spaced[1] = 1
    assert steps(spaced, 8).numpy() == pytest.approx(2 / 128, rel=1e-4)


def test_with_an_odd_number_of_channels_both_pairings_are_bound():
    kernel = np.zeros((1, 2, 3, 1), np.float32)
    kernel[0, :, :, 0] = [[0, 0, 1], [1, 0, 0]]  # meet only where channels are not filled up
    assert steps(kernel.reshape(-1, 1), 3).numpy() == pytest.approx(2 / 128, rel=1e-4)
    kernel[0, :, :, 0] = [[0, 0, 0], [1, 1, 0]]  # places 3 and 4: only where they are
    assert steps(kernel.reshape(-1, 1), 3).numpy() == pytest.approx(2 / 128, rel=1e-4)


def kernels_of_onnx(file: Path) -> dict[str, np.ndarray]:
    """The 8-bit kernels of a file as rows, by layer."""
    import onnx

    proto = onnx.load(file)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    givers = {name: node for node in proto.graph.node for name in node.output}
    kernels = {}
    for node in proto.graph.node:
        source = givers.get(node.input[1]) if len(node.input) > 1 else None
        kernel = constants.get(source.input[0]) if source is not None else None
        if kernel is not None and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            kernels.setdefault(node.name.split("/")[0], rows_of(kernel, node.op_type))
    return kernels


def kernels_of_tflite(file: Path) -> list[np.ndarray]:
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    graph, kernels = model.subgraphs[0], []
    for operator in graph.operators:
        kind = codes[operator.opcodeIndex]
        names = schema.BuiltinOperator
        if kind not in (names.CONV_2D, names.DEPTHWISE_CONV_2D, names.FULLY_CONNECTED, names.TRANSPOSE_CONV):
            continue
        tensor = graph.tensors[operator.inputs[1]]
        numbers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8)
        if (numbers == 1).all():  # a pooling
            continue
        last = kind == names.DEPTHWISE_CONV_2D
        channels = tensor.shape[-1 if last else 0]
        kernels.append(numbers.reshape(-1, channels) if last else numbers.reshape(channels, -1).T)
    return kernels


@pytest.mark.parametrize("name", [name for name, (*_, share) in KINDS.items() if share == 1])
def test_every_file_has_the_same_integers(name, tmp_path):
    model, x = build(name)
    for layer in model.layers:  # as heavy as can be: all of one sign, so that every pair counts
        layer.set_weights([np.abs(weight) if weight.ndim > 1 else weight for weight in layer.get_weights()])
    quantized = fake_quantized(model, x)
    for target in ("onnxruntime", "tensorrt", "litert"):
        (tmp_path / target).mkdir()
        FORMATS[target].write(quantized, tmp_path / target, "int8", classes=())
    kernels = kernels_of_onnx(tmp_path / "onnxruntime" / "model.onnx")
    known = sorted((numbers.shape, numbers.tobytes()) for numbers in kernels.values())
    assert known
    for layer, numbers in kernels.items():
        if quantized.get_layer(f"quant_{layer}").layer.__class__.__name__ not in ("DepthwiseConv2D", "Conv2DTranspose"):
            assert heaviest(numbers).max() <= 128, layer
    lite = {(numbers.shape, numbers.tobytes()) for numbers in kernels_of_tflite(tmp_path / "litert" / "model.tflite")}
    assert lite == set(known)
    if name != "transposed":  # stays in float there
        on_tensorrt = kernels_of_onnx(tmp_path / "tensorrt" / "model.onnx")
        assert {(n.shape, n.tobytes()) for n in on_tensorrt.values()} == set(known)


def test_a_kernel_is_looked_up_by_its_values_alone():
    model, x = build("concatenate")
    quantized = fake_quantized(model, x)
    kernels = kernel_steps(quantized)
    rows = np.ones((4, 2), np.float32)
    assert kernels.of(rows) is None
    kernels.add(rows, np.array([0.5, 0.25], np.float32))
    np.testing.assert_array_equal(kernels.of(rows * 1.0), [0.5, 0.25])
    assert kernels.of(rows * 1.0001) is None


@pytest.mark.parametrize(
    "name", ["conv2d same, strided", "dense", "dense on a sequence", "depthwise times two", "conv1d"]
)
def test_the_files_of_onnx_runtimes_own_tool_cannot_saturate_either(name, tmp_path, monkeypatch):
    from tasks.formats.onnx import files as onnx
    from tasks.formats.onnx import static_quantization as onnx_static
    from tasks.formats.onnx.saturation import layers
    from tasks.quantization.calibration import CalibrationConfig

    model, x = build(name)
    for layer in model.layers:
        layer.set_weights([np.abs(weight) if weight.ndim > 1 else weight + 0.3 for weight in layer.get_weights()])
    how, expected = CalibrationConfig(examples=len(x), method="minmax", percentile=99.99), model(x).numpy()
    onnx.calibrate(model, tmp_path, x, how, classes=())
    off = np.abs(onnx.load(tmp_path)(x) - expected).max() / np.ptp(expected)
    assert layers(tmp_path / onnx.FILE) == ()
    monkeypatch.setattr(onnx_static, "_unsaturate", lambda model, floats: None)
    onnx.calibrate(model, tmp_path, x, how, classes=())
    assert layers(tmp_path / onnx.FILE), "as the tool leaves it, it can"
    as_it_was = np.abs(onnx.load(tmp_path)(x) - expected).max() / np.ptp(expected)
    assert off < 0.03
    assert off < 2 * as_it_was + 0.005
