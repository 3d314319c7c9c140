"""ONNX for NVIDIA's TensorRT 10 and later, which builds an engine from it for the GPU that it is built on.

The way there is the one for ONNX Runtime; `lowering` differs, because TensorRT wants the opposite ranges. No GPU is
needed to write a file, and none was used to check one: the parser's limits and the placement of integers are checked
against NVIDIA's documentation by `rules`, and answers come from ONNX Runtime on the same file.

- The opset is 17 and the batch axis is dynamic, so that the builder needs the sizes to expect:
  `trtexec --onnx=model.onnx --stronglyTyped --minShapes=input:1x32x32x3 --optShapes=input:8x32x32x3
  --maxShapes=input:64x32x32x3`. Strong typing, the file's own numbers and no others, is all that TensorRT 11 knows.
- Engines with integers are not to be refittable: TensorRT joins neighbouring ranges of the same scale, which it leaves
  undone where a scale may change later ("Q/DQ Limitations").
- float16 is therefore a file whose operators are in float16. The builder's own `--fp16` on the float32 file would do
  as well in TensorRT 10, and is gone from 11.
- There is no dynamic: the parser takes neither DynamicQuantizeLinear nor MatMulInteger.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.artifact import Precision
from tasks.contract.errors import ConversionError
from tasks.formats.audit import Audit, LayerAudit, counted
from tasks.formats.onnx import audit as onnx_audit
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx import saturation as onnx_saturation
from tasks.formats.tensorrt import lowering as tensorrt_integers
from tasks.formats.tensorrt import rules as tensorrt_rules

if TYPE_CHECKING:
    import onnx_ir as ir
    import tensorflow as tf

FILE = "model.onnx"
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
TITLE = "TensorRT"
RUNS_HERE = False  # what is measured of a file here is not TensorRT's: no limit can be checked on it
REQUIREMENTS: tuple[str, ...] = ()  # of asking a version through MLflow
STEPS = (8.0, 4.0)  # its ranges lie about zero, with half the steps


def write(
    model: "tf.keras.Model",
    folder: Path,
    precision: Precision,
    *,
    classes: tuple[str, ...],
) -> None:
    """Put a model in a folder as `model.onnx`, checked, and opened once in ONNX Runtime.

    Args:
        model: Keras 2; for int8 a fake-quantized one.
        folder: an existing one.
        precision: float32; float16 kernels, inputs and outputs still float32; int8 from the model's own ranges.
        classes: their names in label order; kept in the file's metadata.

    Raises:
        ConversionError: an operator or a number that TensorRT's parser refuses; int8 of a model without ranges.

    """
    import onnx_ir as ir

    proto = onnx.made(model, precision, tensorrt_integers.lower, "tensorrt", classes)
    refused = [finding for finding in tensorrt_rules.check(ir.from_proto(proto)) if finding.costs == "refused"]
    if refused:
        layer = refused[0].node.split("/")[0]
        raise ConversionError(
            f"layer '{layer}' cannot be written for tensorrt: {refused[0].text}: name another target (onnxruntime, "
            "litert or savedmodel), or replace the layer"
        )
    (folder / FILE).write_bytes(proto.SerializeToString(deterministic=True))


def load(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from float32 inputs `(batch, ...)` to float32 outputs, by ONNX Runtime on the processor.

    Its answers are those of the file; its speed says nothing about TensorRT.

    Args:
        folder: where `write` put the file.
        threads: of one operator; operators run one after the other.

    """
    return onnx.load(folder, threads)


def saturating(folder: Path) -> tuple[str, ...]:
    """The layers that can saturate where ONNX Runtime answers for the file; TensorRT sums in 32 bits."""
    return onnx.saturating(folder)


def audit(folder: Path, example: np.ndarray) -> Audit:
    """What TensorRT is to run by its own rules, one example at a time: a prediction.

    Nothing is run but loops, in ONNX Runtime, to know how often they turn.
    """
    import onnx_ir as ir

    model = ir.load(folder / FILE)
    findings = tensorrt_rules.check(model)
    refused = next((finding.text for finding in findings if finding.costs == "refused"), "")
    why = {finding.node: finding.text for finding in findings if finding.costs == "float"}
    work = onnx_audit.multiply_accumulates(folder / FILE, example)
    risky = onnx_saturation.saturating(model)  # TensorRT sums in 32 bits, but ONNX Runtime is what answers here
    integer = {node.name for node in model.graph if not refused and tensorrt_rules.runs_in_integers(node)}
    layers = tuple(
        LayerAudit(
            name=node.name.split("/")[0],
            kernel=_kernel(node, integer),
            macs=work[node.name],
            integer=node.name in integer,
            why="" if node.name in integer else refused or why.get(node.name) or _why(node),
            saturates=node.name in risky,
        )
        for node in model.graph.all_nodes()
        if node.name in work
    )
    beside = ("QuantizeLinear", "DequantizeLinear")  # become part of the kernels that they stand beside
    kernels = [_kernel(node, integer) for node in model.graph if node.op_type not in beside]
    return Audit(layers=layers, kernels=counted(kernels), sums_apart=())


def _kernel(node: "ir.Node", integer: set[str]) -> str:
    return f"{'int8 ' if node.name in integer else ''}{node.op_type} (predicted)"


def _why(node: "ir.Node") -> str:
    if node.op_type in onnx_audit.GATES:
        return "TensorRT has no integer kernel for recurrent layers"
    if node.op_type == "ConvTranspose":
        return "its kernel is held by output channel, and TensorRT takes transposed ones by input channel"
    return "neither what it takes nor its kernel is held to 8 bits"
