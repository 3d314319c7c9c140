"""Post-training quantization by ONNX Runtime's own tool, as the alternative to ranges that all targets share.

With the settings that its integer kernels take: unsigned asymmetric activations, signed kernels by channel, QDQ form.
The tool's own steps use the full range of 8 bits, with which kernels may saturate on processors without VNNI; they are
made as large as the pair rule wants them, from the same floats.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats.onnx.lowering import rows_of
from tasks.formats.onnx.saturation import QUANTIZED, saturating
from tasks.formats.onnx.sums import settle_sums
from tasks.quantization.calibration import Calibration
from tasks.quantization.pair_rule import steps

if TYPE_CHECKING:
    import onnx


def static(
    proto: "onnx.ModelProto", examples: np.ndarray, calibration: Calibration, percentile: float
) -> "onnx.ModelProto":
    """A float model in 8 bits.

    Args:
        proto: with one input.
        examples: raw inputs `(n, ...)`, float32, that set the ranges.
        calibration: by which of the tool's methods.
        percentile: for the method of that name.

    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Examples(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the examples one after another: histograms of a whole batch would be of its extremes."""

        def __init__(self) -> None:
            self._rest = iter(examples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            example = next(self._rest, None)
            return None if example is None else {proto.graph.input[0].name: example[None]}

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    options: dict[str, Any] = {"CalibPercentile": percentile} if calibration == "percentile" else {}
    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / f"{name}.onnx" for name in ("float", "ready", "static"))
        onnx.save(proto, before)
        quant_pre_process(before, ready)
        quantize_static(
            ready,
            after,
            Examples(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=methods[calibration],
            extra_options=options,
        )
        model = onnx.load(after)
        settle_sums(model)
        return _unsaturated(model, onnx.load(ready))


def _unsaturated(model: "onnx.ModelProto", floats: "onnx.ModelProto") -> "onnx.ModelProto":
    """The tool's model with larger steps, and biases in their unit, wherever a kernel could saturate; in place.

    Args:
        model: quantized, a DequantizeLinear in front of each kernel and bias.
        floats: what it was quantized from; the names of kernels and biases are those of `model` without an ending.

    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in floats.graph.initializer}
    givers = {name: node for node in model.graph.node for name in node.output}

    def array(name: str) -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(constants[name])
        return values

    def put(name: str, values: np.ndarray) -> None:
        constants[name].CopyFrom(numpy_helper.from_array(values, name))

    risky, done = saturating(model), set()
    for node in model.graph.node:
        source = givers.get(node.input[1]) if node.op_type in QUANTIZED and node.name in risky else None
        kernel = before.get(source.input[0].removesuffix("_quantized")) if source is not None else None
        if source is None or kernel is None or source.input[0] in done:
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        rows = rows_of(kernel, node.op_type, transposed=transposed)
        inner = kernel.shape[1] if node.op_type == "Conv" else len(rows)
        old = array(source.input[1])
        larger = np.maximum(steps(rows, inner).numpy(), old)
        scales = larger if old.size > 1 else larger.max().reshape(old.shape)
        axis = 0 if node.op_type == "Conv" or transposed else kernel.ndim - 1
        along = scales.reshape([-1 if place == axis else 1 for place in range(kernel.ndim)])
        put(source.input[0], np.rint(kernel / along).astype(np.int8))
        put(source.input[1], scales.astype(np.float32))
        done.add(source.input[0])
        bias = givers.get(node.input[2]) if len(node.input) > 2 else None
        taken = givers.get(node.input[0])
        if bias is not None and taken is not None and bias.op_type == taken.op_type == "DequantizeLinear":
            units = array(taken.input[1]) * scales
            put(bias.input[0], np.rint(before[bias.input[0].removesuffix("_quantized")] / units).astype(np.int32))
            put(bias.input[1], units.astype(np.float32).reshape(array(bias.input[1]).shape))
    return model
