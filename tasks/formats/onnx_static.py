"""Post-training quantization by ONNX Runtime's own tool, as the alternative to ranges that all targets share.

With the settings that its integer kernels take: unsigned asymmetric activations, signed kernels by channel, QDQ form.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.calibration import Calibration

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
        return onnx.load(after)
