"""TFLite for LiteRT, through TensorFlow's own converter.

Of a frozen fake-quantized model it makes a file in float that has the ranges in it; `lowering` makes that one in
integers.
"""

import math
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.artifact import Precision
from tasks.contract.errors import ConversionError
from tasks.contract.named import by_name, field, packed
from tasks.formats.audit import Audit, LayerAudit, counted
from tasks.formats.input_types import in_own_types
from tasks.formats.lookups import without_tables
from tasks.formats.savedmodel import files as savedmodel
from tasks.formats.slimline_pyfunc import as_steps, as_values
from tasks.formats.tflite.graph import TFLiteGraph, layer_of, named_by_layers
from tasks.formats.tflite.integer_ends import quantized_at_inputs, softened_last
from tasks.formats.tflite.layers import reachable
from tasks.formats.tflite.lowering import lower
from tasks.formats.tflite.recurrent import looping
from tasks.keras_graph.folding import fold
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.own_types import own_types
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.fake_quantization import custom_objects, frozen
from tasks.quantization.parameters import is_fake_quantized, kernel_steps

if TYPE_CHECKING:
    import tensorflow as tf

FILE = "model.tflite"
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "dynamic", "int8")
TITLE = "LiteRT"
RUNS_HERE = True
REQUIREMENTS: tuple[str, ...] = ("mlflow", "ai-edge-litert", "numpy")  # of asking a version through MLflow
STEPS = (3.0, 1.0)  # it rounds means and products once more
WAY_OUT = "name another target (savedmodel has every operator, onnxruntime many), or replace the layer"


def write(
    model: "tf.keras.Model",
    folder: Path,
    precision: Precision,
    *,
    classes: tuple[str, ...],
    integer_io: bool = False,
) -> None:
    """Put a model in a folder as `model.tflite`, opened once.

    Args:
        model: Keras 2; for int8 a fake-quantized one.
        folder: an existing one.
        precision: float32; int8 inside from the model's own ranges, float32 outside; dynamic with 8-bit kernels and
            ranges measured anew for each input; float16 kernels.
        classes: their names in label order; packed into the file as `labels.txt`, as LiteRT's metadata does:
            `unzip -p model.tflite labels.txt` shows them.
        integer_io: for int8, inputs and outputs are int8 too, in steps that the file's tensors have with them.

    Raises:
        ConversionError: an operator that LiteRT does not have; int8 of a model without ranges.

    """
    import tensorflow as tf

    if precision == "int8" and not is_fake_quantized(model):
        raise ConversionError(
            f"model '{model.name}' has no ranges, so it cannot be written for litert in int8: quantize it first "
            "(quantize.method: training or post_training), or ask for float32, dynamic or float16"
        )
    integer_io = integer_io and precision == "int8"
    ready = frozen(model) if is_fake_quantized(model) else fold(model)
    with tf.keras.utils.custom_object_scope(custom_objects()):
        ready = reachable(quantized_at_inputs(ready) if integer_io else ready)
    content = _converted(ready, "float32" if precision == "int8" else precision)
    if precision == "int8":
        content = lower(content, kernel_steps(model), integer_ends=integer_io)
    _keep(content, folder, model.name, classes)


def calibrate(
    model: "tf.keras.Model",
    folder: Path,
    examples: np.ndarray,
    calibration: CalibrationConfig,  # noqa: ARG001  the converter knows one method, the ends of what it saw
    *,
    classes: tuple[str, ...],
    integer_io: bool = False,
) -> None:
    """Put a model without ranges in a folder in int8, its ranges set by the TFLite converter itself.

    Args:
        model: Keras 2, in float.
        folder: an existing one.
        examples: raw inputs `(n, ...)`, float32, or records of them.
        calibration: its method is not the converter's to choose: it takes all that was seen.
        classes: their names in label order.
        integer_io: as in `write`.

    Raises:
        ConversionError: as `write`.

    """
    content = _converted(reachable(fold(model)), "int8", integer_io=integer_io, examples=examples)
    _keep(content if integer_io else softened_last(content), folder, model.name, classes)


def _converted(
    model: "tf.keras.Model", precision: Precision, *, integer_io: bool = False, examples: np.ndarray | None = None
) -> bytes:
    """The converter's file; with examples, it sets ranges by them."""
    import tensorflow as tf

    with tf.keras.utils.custom_object_scope(custom_objects()):
        model = looping(without_tables(in_own_types(model)))  # last: a copy of a layer has Keras' own loop again
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        savedmodel.export(model, Path(place))
        converter = tf.lite.TFLiteConverter.from_saved_model(place, signature_keys=[savedmodel.SIGNATURE])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if examples is not None:
            names, types = signature_names(model)[0], own_types(model)
            singles = [examples[place : place + 1] for place in range(len(examples))]
            converter.representative_dataset = lambda: (by_name(each, names, types) for each in singles)
        if integer_io:
            converter.inference_input_type = converter.inference_output_type = tf.int8
        # it asks for example inputs, which fake quantization makes unnecessary
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        try:
            with _quiet(hidden=b"error: "):  # they are in the exception too
                content: bytes = converter.convert()
        except Exception as error:  # the converter's own, which it does not export
            raise _explained(model, str(error)) from error
    return content


def _keep(content: bytes, folder: Path, name: str, classes: tuple[str, ...]) -> None:
    """Write the file, open it once, and put the class names inside."""
    content = named_by_layers(content)
    (folder / FILE).write_bytes(content)
    try:
        interpreter = _interpreter(folder / FILE, 1)
        with _quiet():
            for batch in (1, 2):  # some operators are written for the batch that the converter saw
                inputs = interpreter.get_input_details()
                for details in inputs:
                    interpreter.resize_tensor_input(details["index"], (batch, *details["shape"][1:]))
                interpreter.allocate_tensors()
                for details in inputs:
                    interpreter.set_tensor(details["index"], np.zeros((batch, *details["shape"][1:]), details["dtype"]))
                interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        (folder / FILE).unlink()
        raise ConversionError(
            f"{_culprit(content, str(error), name)} was converted for litert, but the file does not run: "
            f"{_line(str(error))}: {WAY_OUT}"
        ) from error
    if classes:
        with zipfile.ZipFile(folder / FILE, "a") as archive:
            archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in classes))


def _culprit(content: bytes, complaint: str, name: str) -> str:
    """The layer of the operator that an interpreter complains about; else the model."""
    place, graph = re.search(r"Node number (\d+)", complaint), TFLiteGraph(content)
    if place is None or int(place[1]) >= len(graph.operators):
        return f"model '{name}'"
    operator = graph.operators[int(place[1])]
    tensors = [*operator.outputs, *operator.inputs[1:], *operator.inputs[:1]]  # an output of the model has another name
    return f"layer '{layer_of(*(graph.tensors[tensor].name.decode() for tensor in tensors if tensor >= 0))}'"


def _explained(model: "tf.keras.Model", complaint: str) -> ConversionError:
    """The converter's many lines as one that names layer and operator."""
    operator = re.search(r"(?:tf\.|TF Select ops: |Ops: )(\w+)", complaint)
    names = {layer.name for layer in model.layers}
    paths = re.findall(r'"([^"]*/[^"]*)"', complaint)  # of operators: model, layer, what is in the layer
    layers = [part for path in paths for part in path.split("/") if part in names]
    where = f"layer '{layers[0]}'" if layers else f"model '{model.name}'"
    what = (
        f"needs the operator {operator[1]}, which litert does not have"
        if operator
        else "cannot be converted for litert"
    )
    return ConversionError(f"{where} {what}: {_line(complaint)}: {WAY_OUT}")


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:300]


def load(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from inputs `(batch, ...)` to float32 outputs, records where they are several, for any batch.

    Inputs are numbers of any type, whatever the file takes. A signature has its outputs in no order; they come in that
    of their names.

    A change of the batch size, or of a length that is free, plans the memory anew; the last few are kept ready.

    Args:
        folder: where `write` put the file.
        threads: of one operator; operators run one after the other.

    """

    @lru_cache(maxsize=4)
    def ready(
        shape: tuple[int, ...], record: np.dtype | None
    ) -> tuple[Any, list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]:
        interpreter = _interpreter(folder / FILE, threads)
        inputs, outputs = (list(each.items()) for each in ends(interpreter))
        for name, details in inputs:
            given = shape[1:] if record is None else record[name].shape
            sizes = zip(given, details["shape"][1:], details["shape_signature"][1:], strict=True)
            interpreter.resize_tensor_input(
                details["index"], (shape[0], *(one if free < 0 else size for one, size, free in sizes))
            )
        with _quiet():
            interpreter.allocate_tensors()
        return interpreter, inputs, outputs

    def run(x: np.ndarray) -> np.ndarray:
        interpreter, inputs, outputs = ready(x.shape, x.dtype if x.dtype.names else None)
        for name, details in inputs:
            values = x if len(inputs) == 1 else field(x, name)
            interpreter.set_tensor(details["index"], as_steps(values, details))
        interpreter.invoke()
        if len(outputs) == 1:  # a call takes microseconds, of which packing would be a third
            return as_values(interpreter.get_tensor(outputs[0][1]["index"]), outputs[0][1])
        return packed({name: as_values(interpreter.get_tensor(of["index"]), of) for name, of in outputs})

    return run


Ends = dict[str, dict[str, Any]]  # tensors as LiteRT describes them, by the names that the file's signature has


def ends(interpreter: Any) -> tuple[Ends, Ends]:
    """The inputs and outputs of an open file: its tensors stand in an order of their own, and so only names tell.

    A file without a signature, as of others, has the names of its tensors.
    """
    if interpreter.get_signature_list():
        runner = interpreter.get_signature_runner()
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {each["name"]: each for each in inputs}, {each["name"]: each for each in outputs}


def saturating(folder: Path) -> tuple[str, ...]:  # noqa: ARG001  the other formats look
    """No layer: XNNPACK's kernels widen to 16 bits, or have instructions that sum in 32."""
    return ()


MULTIPLYING = frozenset(
    {"BATCH_MATMUL", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
DELEGATE = "DELEGATE"


def audit(folder: Path, example: np.ndarray) -> Audit:
    """What LiteRT runs for a batch of one: the file's operators, and how many parts of it its delegate took over.

    The delegate (XNNPACK) computes an operator in the numbers that the file has it in. What a loop repeats counts as
    often as it was repeated, by the operators of the file: what the delegate takes over in there cannot be seen.
    """
    asked = _asked(folder / FILE, example, delegate=False)  # each tensor is in the shape that it took
    tensors = {tensor["index"]: tensor for tensor in asked.get_tensor_details()}
    ran = [
        (each["op_name"], [tensors[end] for end in (*each["inputs"], *each["outputs"]) if end >= 0], 1)
        for each in _asked(folder / FILE, example, delegate=True)._get_ops_details()
    ]
    for body, turns in TFLiteGraph((folder / FILE).read_bytes()).loops(asked.get_tensor):
        for each in body.operators:
            numbers = [end for end in (*each.inputs, *each.outputs) if end >= 0]
            ran.append((body.kind(each), [asked._get_tensor_details(end, body.number) for end in numbers], turns))
    layers = []
    for kind, tensors_of, turns in ran:
        if kind not in MULTIPLYING:
            continue
        *taken, result = tensors_of  # what multiplies gives one tensor
        values = taken[2] if kind == "TRANSPOSE_CONV" else taken[0]
        types = [np.dtype(tensor["dtype"]).name for tensor in (values, taken[1])]
        layers.append(
            LayerAudit(
                name=layer_of(taken[1]["name"], result["name"]),
                kernel=kind,
                macs=turns * _macs(kind, values["shape"], taken[1]["shape"], result["shape"]),
                integer=types[1] == "int8",
                why="" if types[1] == "int8" else f"the file has it in {types[0]}",
                saturates=False,
            )
        )
    kernels = [kind for kind, _, turns in ran for _ in range(turns)]
    return Audit(layers=tuple(layers), kernels=counted(kernels), sums_apart=())


def _asked(file: Path, example: np.ndarray, *, delegate: bool) -> Any:
    """An interpreter of a file that was asked an example, with or without the delegate."""
    interpreter = _interpreter(file, 1, delegate=delegate)
    inputs, _ = ends(interpreter)
    given = by_name(example, list(inputs))
    for name, values in given.items():
        interpreter.resize_tensor_input(inputs[name]["index"], values.shape)
    with _quiet():
        interpreter.allocate_tensors()
    for name, values in given.items():
        interpreter.set_tensor(inputs[name]["index"], as_steps(values, inputs[name]))
    interpreter.invoke()  # only now are sizes known that a file computes, as where steps are folded into the batch
    return interpreter


def _macs(kind: str, values: Any, kernel: Any, result: Any) -> int:
    """Multiply-accumulates from shapes.

    Kernels are (out, height, width, in), depthwise (1, height, width, out), in space (depth, height, width, in, out).
    """
    if kind == "CONV_3D":
        return math.prod(map(int, result)) * math.prod(map(int, kernel[:4]))
    if kind == "TRANSPOSE_CONV":
        return math.prod(map(int, values)) * math.prod(map(int, kernel[:3]))
    if kind == "CONV_2D":
        return math.prod(map(int, result)) * math.prod(map(int, kernel[1:]))
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(map(int, result)) * math.prod(map(int, kernel[1:3]))
    return math.prod(map(int, result)) * int(values[-1] if kind == "BATCH_MATMUL" else kernel[-1])


def _interpreter(file: Path, threads: int, *, delegate: bool = True) -> Any:
    """With the delegate or, to be looked into, without: then what each tensor had in it can be read."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with _quiet():
        return Interpreter(
            str(file),
            num_threads=threads,
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=not delegate,
        )


@contextmanager
def _quiet(hidden: bytes = b"XNNPACK delegate") -> Iterator[None]:
    """Keeps lines with this in them off the screen: LiteRT and the converter write past Python. All else passes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            shown = [line for line in caught.read().splitlines(keepends=True) if hidden not in line]
            os.write(2, b"".join(shown))
