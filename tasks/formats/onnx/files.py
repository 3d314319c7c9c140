"""ONNX for ONNX Runtime on processors.

Through tf2onnx, then through our hands: what tf2onnx leaves in float of a fake-quantized model is lowered by
`lowering`, and names are made to depend on the model alone.
"""

import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.artifact import Precision, Target
from tasks.contract.errors import ConversionError
from tasks.contract.named import feeding, packing
from tasks.formats.audit import Audit
from tasks.formats.input_types import in_own_types
from tasks.formats.lookups import without_tables
from tasks.formats.onnx import audit as onnx_audit
from tasks.formats.onnx import lowering as onnx_integers
from tasks.formats.onnx import saturation as onnx_saturation
from tasks.formats.onnx.constants import fold_constants
from tasks.formats.onnx.half_precision import half
from tasks.formats.onnx.handlers import handlers
from tasks.formats.onnx.names import layer_of, read, subgraph_protos, written
from tasks.formats.onnx.static_quantization import static
from tasks.formats.slimline_pyfunc import onnx_tensor
from tasks.keras_graph.folding import fold
from tasks.keras_graph.names import signature_names
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.fake_quantization import frozen
from tasks.quantization.kernel_steps import KernelSteps
from tasks.quantization.parameters import is_fake_quantized, kernel_steps

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import onnxruntime
    import tensorflow as tf

FILE = "model.onnx"
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "dynamic", "int8")
TITLE = "ONNX Runtime"
RUNS_HERE = True
REQUIREMENTS: tuple[str, ...] = ("mlflow", "onnx", "onnxruntime", "numpy")  # of asking a version through MLflow
STEPS = (2.0, 0.75)
OPSET = 17  # DequantizeLinear by channel needs 13; tf2onnx is tested up to 18, and older runtimes read 17
IR_VERSION = 8  # the one that came with opset 17: a newer one would keep older runtimes out


def write(
    model: "tf.keras.Model",
    folder: Path,
    precision: Precision,
    *,
    classes: tuple[str, ...],
) -> None:
    """Put a model in a folder as `model.onnx`, checked and opened once.

    Args:
        model: Keras 2; for int8 a fake-quantized one.
        folder: an existing one.
        precision: float32; int8 from the model's own ranges; dynamic with 8-bit kernels and ranges measured anew
            for each input; float16 kernels, inputs and outputs still float32.
        classes: their names in label order; kept in the file's metadata.

    Raises:
        ConversionError: an operator that ONNX Runtime has no kernel for; int8 of a model without ranges.

    """
    proto = made(model, precision, onnx_integers.lower, "onnxruntime", classes)
    (folder / FILE).write_bytes(proto.SerializeToString(deterministic=True))


def calibrate(
    model: "tf.keras.Model",
    folder: Path,
    examples: np.ndarray,
    calibration: CalibrationConfig,
    *,
    classes: tuple[str, ...],
) -> None:
    """Put a model without ranges in a folder in int8, its ranges set by ONNX Runtime's own tool.

    Args:
        model: Keras 2, in float.
        folder: an existing one.
        examples: raw inputs `(n, ...)`, float32, or records of them.
        calibration: by which method.
        classes: their names in label order.

    Raises:
        ConversionError: as `write`.

    """
    proto = made(model, "float32", onnx_integers.lower, "onnxruntime", classes)
    with _quiet_root():
        proto = static(proto, examples, calibration.method, calibration.percentile)
    _check(proto, model.name, "onnxruntime")
    (folder / FILE).write_bytes(proto.SerializeToString(deterministic=True))


def made(
    model: "tf.keras.Model",
    precision: Precision,
    lower: "Callable[[ir.Graph, KernelSteps], None]",
    target: Target,
    classes: tuple[str, ...],
) -> "onnx.ModelProto":
    """A model in ONNX, checked and opened once: what all targets that read ONNX share.

    Args:
        model: Keras 2; for int8 a fake-quantized one.
        precision: the numbers that it computes in.
        lower: brings a graph with fake quantization into the form that the target computes in integers.
        target: named in errors.
        classes: their names in label order.

    Raises:
        ConversionError: the model cannot be converted, or would not run.

    """
    if precision == "int8" and not is_fake_quantized(model):
        raise ConversionError(
            f"model '{model.name}' has no ranges, so it cannot be written for {target} in int8: quantize it first "
            "(quantize.method: training or post_training), or ask for float32 or float16"
        )
    ready = without_tables(in_own_types(frozen(model) if is_fake_quantized(model) else fold(model)))
    proto = _converted(ready, target)
    rewritten = read(proto)
    fold_constants(rewritten.graph, OPSET)
    if is_fake_quantized(model):
        lower(rewritten.graph, kernel_steps(model))
    proto = written(rewritten, *signature_names(ready))
    if precision in SMALLER:
        try:
            proto = SMALLER[precision](proto)
        except Exception as error:  # whatever ONNX Runtime's tools stumble over
            raise ConversionError(
                f"{_culprit(error, model.name)} cannot be written for {target} in {precision}: {_line(error)}: ask for "
                "float32 or int8, or name another target"
            ) from error
    proto.ir_version = IR_VERSION
    if classes:
        proto.metadata_props.add(key="classes", value=json.dumps(list(classes), ensure_ascii=False))
    _check(proto, model.name, target)
    return proto


def load(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from inputs `(batch, ...)` to float32 outputs, records where they are several, for any batch.

    Inputs are numbers of any type, and given in the file's own.

    On a processor where ONNX Runtime's kernels saturate, a file that can is opened with unsigned weights, which is
    right and slower: see `saturation.unsigned`. Others are opened as they are, everywhere.

    Args:
        folder: where `write` put the file.
        threads: of one operator; operators run one after the other.

    """
    unsigned = onnx_saturation.unsigned(folder / FILE) if onnx_saturation.processor_saturates() else None
    session = _session(unsigned or str(folder / FILE), threads)
    inputs = list(map(onnx_tensor, session.get_inputs()))
    fed = feeding([end.name for end in inputs], [end.dtype for end in inputs])
    answered = packing([end.name for end in session.get_outputs()])

    def run(inputs: np.ndarray) -> np.ndarray:
        return answered(session.run(None, fed(inputs)))

    return run


def saturating(folder: Path) -> tuple[str, ...]:
    """The layers whose integer kernels can saturate on an x86 processor without VNNI, by their numbers alone."""
    return onnx_saturation.layers(folder / FILE)


def audit(folder: Path, example: np.ndarray) -> Audit:
    """What ONNX Runtime runs for a batch of one example `(1, ...)`, by profiling it."""
    return onnx_audit.audit(folder / FILE, example)


def _session(model: str | bytes, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are of optimisations that were not made
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _converted(model: "tf.keras.Model", target: Target) -> "onnx.ModelProto":
    import tensorflow as tf
    import tf2onnx

    signature = [
        tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, signature_names(model)[0], strict=True)
    ]
    _call_in_place(model)
    with _complaints() as complaints:
        try:
            proto, _ = tf2onnx.convert.from_keras(model, signature, opset=OPSET, custom_op_handlers=handlers())
        except Exception as error:  # whatever it stumbles over inside
            raise ConversionError(
                f"model '{model.name}' cannot be converted for {target}: tf2onnx failed with "
                f"{type(error).__name__}: {_line(error)}: name another target, or replace the layer that it speaks of"
            ) from error
    _check_operators(proto, complaints, target)
    return proto


def _call_in_place(model: "tf.keras.Model") -> None:
    """Convolutions in groups are called as others are: Keras has them compiled, which no converter looks into."""
    for layer in model._flatten_layers():
        if hasattr(layer, "_jit_compiled_convolution_op"):
            layer._jit_compiled_convolution_op = layer.convolution_op


def _check_operators(proto: "onnx.ModelProto", complaints: "list[str | ConversionError]", target: Target) -> None:
    """tf2onnx writes operators that it cannot convert into the file as they are, and only logs that it did.

    Raises:
        ConversionError: there are such.

    """
    import onnx

    refused = next((each for each in complaints if isinstance(each, ConversionError)), None)
    if refused is not None:
        raise refused
    for node in (node for graph in (proto.graph, *subgraph_protos(proto.graph)) for node in graph.node):
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, OPSET, ""):
            raise ConversionError(
                f"layer '{layer_of([node.name]) or node.name}' needs the operator {node.op_type}, which "
                f"{target} has no match for in opset {OPSET}: name another target (savedmodel has every "
                "operator, litert others), or replace the layer"
            )
    if complaints:
        raise ConversionError(
            f"tf2onnx could not convert all of the model for {target}: {complaints[0]}: name another target, or "
            "replace the layer that it speaks of"
        )


def _dynamic(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """8-bit kernels, activations quantized as they come, by ONNX Runtime's own tool."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet_root():
        before, after = Path(folder) / "float.onnx", Path(folder) / "dynamic.onnx"
        onnx.save(proto, before)
        # unsigned: ONNX Runtime's ConvInteger has no kernel for signed weights
        quantize_dynamic(before, after, weight_type=QuantType.QUInt8)
        return onnx.load(after)


SMALLER: "dict[Precision, Callable[[onnx.ModelProto], onnx.ModelProto]]" = {"dynamic": _dynamic, "float16": half}


def _check(proto: "onnx.ModelProto", name: str, target: Target) -> None:
    """The checker, a session and a run each see what the others do not.

    Raises:
        ConversionError: the file would not run, or not for more than one example.

    """
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
        session = _session(proto.SerializeToString(), 1)
    except Exception as error:
        raise ConversionError(
            f"{_culprit(error, name)} was converted for {target}, but the file does not run: {_line(error)}: name "
            "another target, or replace the layer"
        ) from error
    _check_batches(session, proto, name, target)


def _check_batches(
    session: "onnxruntime.InferenceSession", proto: "onnx.ModelProto", name: str, target: Target
) -> None:
    """Whether a file answers two examples at once. One whose sizes are open is not asked: any could be too small.

    Raises:
        ConversionError: it answers one at a time, as where a batch of one was written into the model.

    """
    import onnx
    import onnxruntime

    zeros = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim[1:]]
        if not all(sizes):
            return
        zeros[value.name] = np.zeros((2, *sizes), onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # the error below has what it would log
    try:
        counts = {len(answer) if answer.ndim else 0 for answer in session.run(None, zeros, options)}
    except Exception as error:
        raise ConversionError(
            f"{_culprit(error, name)} does not answer two examples at once in its file for {target}: {_line(error)}: "
            "leave the batch open in the model's Input and in what it reshapes, or name another target"
        ) from error
    if counts != {2}:
        raise ConversionError(
            f"model '{name}' gives {min(counts)} answers for two examples in its file for {target}: each example has "
            "to have its own, the first axis of every output"
        )


def _culprit(error: Exception, name: str) -> str:
    """The layer whose operator an error speaks of, by the names that `written` makes; else the model."""
    layer = re.search(r"[Nn]ame: ?'?([^/\s']+)/", str(error))
    return f"layer '{layer[1]}' of model '{name}'" if layer else f"model '{name}'"


def _line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:300]


@contextmanager
def _complaints() -> "Iterator[list[str | ConversionError]]":
    """Collects what tf2onnx logs as errors, and keeps its log off the screen; what our handlers refuse, as it is."""
    errors: list[str | ConversionError] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reason = record.exc_info[1] if record.exc_info else None
            if isinstance(reason, ConversionError):
                errors.append(reason)
            elif record.levelno >= logging.ERROR:
                errors.append(re.sub(r"\s+", " ", record.getMessage())[:300])

    import tf2onnx  # noqa: F401  its loggers come with it

    logger, collector = logging.getLogger("tf2onnx"), Collector()
    before = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = before


@contextmanager
def _quiet_root() -> Iterator[None]:
    """Keeps ONNX Runtime's advice to pre-process off the screen, which it gives through the root logger."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
