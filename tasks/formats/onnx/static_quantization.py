"""Post-training quantization by ONNX Runtime's own tool, as the alternative to ranges that all targets share.

With the settings that its integer kernels take: unsigned asymmetric activations, signed kernels by channel, QDQ form.
The tool's own steps use the full range of 8 bits, with which kernels may saturate on processors without VNNI; they are
made as large as the pair rule wants them, from the same floats.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.named import by_name
from tasks.formats.onnx.graph import array, constant_array, dequantize_before, producer
from tasks.formats.onnx.lowering import rows_of
from tasks.formats.onnx.names import forget_shapes
from tasks.formats.onnx.saturation import QUANTIZED, saturating
from tasks.formats.onnx.sums import settle_sums
from tasks.quantization.calibration import ToolchainCalibration
from tasks.quantization.pair_rule import steps

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def static(
    proto: "onnx.ModelProto", examples: np.ndarray, calibration: ToolchainCalibration, percentile: float
) -> "onnx.ModelProto":
    """A float model in 8 bits.

    Args:
        proto: any.
        examples: raw inputs `(n, ...)`, float32, or records of them, that set the ranges.
        calibration: by which of the tool's methods.
        percentile: for the method of that name.

    """
    import onnx
    import onnx_ir as ir
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Examples(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the examples one after another: histograms of a whole batch would be of its extremes."""

        def __init__(self) -> None:
            self._rest = iter(range(len(examples)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            place = next(self._rest, None)
            return None if place is None else by_name(examples[place : place + 1], names, types)

    names = [end.name for end in proto.graph.input]
    types = [onnx.helper.tensor_dtype_to_np_dtype(end.type.tensor_type.elem_type) for end in proto.graph.input]

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
        model = ir.load(after)
        settle_sums(model)
        _unsaturate(model, ir.load(ready).graph)
        forget_shapes(model.graph)
        return ir.to_proto(model)


def _unsaturate(model: "ir.Model", floats: "ir.Graph") -> None:
    """Larger steps, and biases in their unit, wherever a kernel of the tool's model could saturate; in place.

    Args:
        model: quantized, a DequantizeLinear in front of each kernel and bias.
        floats: what it was quantized from; the names of kernels and biases are those of `model` without an ending.

    """
    import onnx_ir as ir

    def before(value: "ir.Value") -> np.ndarray | None:
        return array(floats.initializers.get(value.name.removesuffix("_quantized")))

    def put(value: "ir.Value", numbers: np.ndarray) -> None:
        value.const_value = ir.tensor(numbers)

    risky, done = saturating(model), set()
    for node in model.graph:
        source = producer(node.inputs[1]) if node.op_type in QUANTIZED and node.name in risky else None
        kernel = before(source.inputs[0]) if source is not None else None
        if source is None or kernel is None or source.inputs[0] in done:
            continue
        transposed = bool(node.attributes.get_int("transB", 0))
        rows = rows_of(kernel, node.op_type, transposed=transposed)
        inner = kernel.shape[1] if node.op_type == "Conv" else len(rows)
        old = constant_array(source.inputs[1])
        larger = np.maximum(steps(rows, inner).numpy(), old)
        scales = larger if old.size > 1 else larger.max().reshape(old.shape)
        axis = 0 if node.op_type == "Conv" or transposed else kernel.ndim - 1
        along = scales.reshape([-1 if place == axis else 1 for place in range(kernel.ndim)])
        put(source.inputs[0], np.rint(kernel / along).astype(np.int8))
        put(source.inputs[1], scales.astype(np.float32))
        done.add(source.inputs[0])
        bias = dequantize_before(node.inputs[2]) if len(node.inputs) > 2 else None
        taken = dequantize_before(node.inputs[0])
        if bias is not None and taken is not None:
            units = constant_array(taken.inputs[1]) * scales
            put(bias.inputs[0], np.rint(before(bias.inputs[0]) / units).astype(np.int32))
            put(bias.inputs[1], units.astype(np.float32).reshape(constant_array(bias.inputs[1]).shape))
