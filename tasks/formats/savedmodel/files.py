"""SavedModel: what TensorFlow Serving runs as it is, with named inputs and outputs and a free batch axis."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.artifact import Precision
from tasks.contract.errors import ConversionError
from tasks.contract.named import by_name, feeding, packed
from tasks.formats.audit import Audit, LayerAudit, counted
from tasks.formats.input_types import in_own_types
from tasks.formats.lookups import without_tables
from tasks.formats.savedmodel.warmup import write_warmup
from tasks.keras_graph.folding import fold
from tasks.keras_graph.names import signature_names
from tasks.quantization.fake_quantization import frozen
from tasks.quantization.parameters import is_fake_quantized

if TYPE_CHECKING:
    import tensorflow as tf

FILE = ""  # the folder itself
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
TITLE = "SavedModel"
RUNS_HERE = True
REQUIREMENTS: tuple[str, ...] = ("mlflow", "tensorflow", "numpy")  # of asking a version through MLflow
STEPS = (2.0, 0.75)
SIGNATURE = "serving_default"
CLASSES = "classes.txt"  # among the assets, a name a line
NUMBERED = re.compile(r"(__inference_\w*_)(\d+)", re.ASCII)  # a function, as TensorFlow names it


def write(model: "tf.keras.Model", folder: Path, precision: Precision, *, classes: tuple[str, ...]) -> None:
    """Make a folder a SavedModel with the signature `serving_default`.

    TensorFlow has no integer kernels on processors: an int8 model answers the same as elsewhere, but in float.

    The same model becomes the same bytes. TensorFlow numbers functions through the life of a process and writes them in
    an order that changes with the numbers: they are numbered anew here. Its `fingerprint.pb`, which holds a random
    number and which nothing needs, is left out.

    Args:
        model: Keras 2; for int8 a fake-quantized one.
        folder: an existing, empty one.
        precision: float32 or int8.
        classes: their names in label order; kept among the assets.

    Raises:
        ConversionError: another precision; int8 of a model without ranges.

    """
    if precision not in PRECISIONS:
        raise ConversionError(
            f"model '{model.name}' cannot be written for savedmodel in {precision}: TensorFlow runs it in float32 or "
            "with fake quantization (int8); leave savedmodel out of targets, or choose another quantize.precision"
        )
    if precision == "int8" and not is_fake_quantized(model):
        raise ConversionError(
            f"model '{model.name}' has no ranges, so it cannot be written for savedmodel in int8: quantize it first "
            "(quantize.method: training or post_training), or ask for float32"
        )
    export(frozen(model) if is_fake_quantized(model) else fold(model), folder, classes)


def export(model: "tf.keras.Model", folder: Path, classes: tuple[str, ...] = ()) -> None:
    """Any Keras model as a SavedModel; see `write`."""
    import tensorflow as tf

    model = in_own_types(without_tables(model))
    inputs, outputs = signature_names(model)
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, inputs, strict=True)
    ]

    def serve(*tensors: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        values = model(tf.nest.pack_sequence_as(model._nested_inputs, tensors), training=False)
        return dict(zip(outputs, tf.nest.flatten(values), strict=True))

    # The bare variables and one function: a whole Keras model would bring its layers' functions, and metadata
    module = tf.Module()
    module.variables_served = model.weights
    function = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
    try:
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: function})
    except AssertionError as error:  # TensorFlow's, for what is neither a weight nor a constant
        holders = [layer.name for layer in model._flatten_layers() if hasattr(layer, "lookup_table") or _draws(layer)]
        raise ConversionError(
            f"layer '{next(iter(holders), model.name)}' keeps something beside its weights, as a table or a generator "
            "of random numbers, which no file can hold: leave it out, and do what it does before the model"
        ) from error
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    _renumber(folder / "saved_model.pb")
    if classes:
        (folder / "assets" / CLASSES).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _draws(layer: "tf.keras.layers.Layer") -> bool:
    return getattr(layer, "_random_generator", None) is not None


def warm_up(folder: Path, examples: np.ndarray) -> None:
    """Have TensorFlow Serving ask these raw inputs `(batch, ...)` or records when it loads the model; see `warmup`."""
    import tensorflow as tf

    specs = tf.saved_model.load(str(folder)).signatures[SIGNATURE].structured_input_signature[1]
    write_warmup(folder, by_name(examples, list(specs), _types(specs)), SIGNATURE)


def load(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:  # noqa: ARG001
    """A function from inputs `(batch, ...)` to float32 outputs, records where they are several, for any batch.

    Inputs are numbers of any type, and given in the file's own. A signature has its outputs in no order; they come in
    that of their names.

    Args:
        folder: a SavedModel.
        threads: cannot be kept: TensorFlow decides once for the whole process, before it first runs anything.

    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[SIGNATURE]
    specs = function.structured_input_signature[1]
    fed = feeding(list(specs), _types(specs))

    def run(inputs: np.ndarray, _owner: Any = loaded) -> np.ndarray:  # the variables live as long as their owner
        answers = function(**{name: tf.constant(values) for name, values in fed(inputs).items()})
        return packed({name: answers[name].numpy() for name in sorted(answers)})

    return run


def _types(specs: "dict[str, tf.TensorSpec]") -> list[str]:
    return [spec.dtype.name for spec in specs.values()]


def saturating(folder: Path) -> tuple[str, ...]:  # noqa: ARG001  the other formats look
    """No layer: TensorFlow computes in float."""
    return ()


MULTIPLYING = frozenset({"Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"})


def audit(folder: Path, example: np.ndarray) -> Audit:  # noqa: ARG001  shapes are in the graph
    """What TensorFlow runs: its graph's operators, all of them in float."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(folder))
    graph = convert_variables_to_constants_v2(loaded.signatures[SIGNATURE]).graph  # one graph, functions in their place
    operations = [operation for operation in graph.get_operations() if operation.type not in PLUMBING]
    fake_quantized = any(operation.type.startswith("FakeQuant") for operation in operations)
    why = "TensorFlow computes fake-quantized values in float" if fake_quantized else "float32 was asked for"
    layers = tuple(
        LayerAudit(
            name=_layer(operation.name),
            kernel=operation.type,
            macs=_macs(operation),
            integer=False,
            why=why,
            saturates=False,
        )
        for operation in operations
        if operation.type in MULTIPLYING
    )
    return Audit(layers=layers, kernels=counted([operation.type for operation in operations]), sums_apart=())


PLUMBING = frozenset({"Const", "Identity", "NoOp", "Placeholder"})


def _layer(name: str) -> str:
    """The Keras layer of an operation, whose name is `.../model/layer/operation`."""
    return name.split("/")[-2] if "/" in name else name


def _macs(operation: Any) -> int:
    """Multiply-accumulates for a batch of one; of a recurrent layer, those outside its loop."""
    if any(tensor.shape.rank is None for tensor in (*operation.inputs, *operation.outputs)):
        return 0
    first, second, result = (
        [size or 1 for size in tensor.shape] for tensor in (*operation.inputs[:2], operation.outputs[0])
    )
    if operation.type == "Conv2DBackpropInput":  # kernel (height, width, out, in) on values (batch, height, width, in)
        values = [size or 1 for size in operation.inputs[2].shape]
        return math.prod(values) * math.prod(second[:3])
    if operation.type == "Conv2D":
        return math.prod(result) * math.prod(second[:3])
    if operation.type == "DepthwiseConv2dNative":
        return math.prod(result) * math.prod(second[:2])
    return math.prod(result) * first[-1]


def _renumber(file: Path) -> None:
    """Gives functions numbers that count from zero and an order by name; forgets what captured tensors were called."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(file.read_bytes())
    numbers: set[int] = set()

    def noted(match: re.Match[str]) -> str:
        numbers.add(int(match[2]))
        return match[0]

    _rename(saved, noted)
    places = {number: place for place, number in enumerate(sorted(numbers))}
    _rename(saved, lambda match: f"{match[1]}{places[int(match[2])]}")
    for graph in saved.meta_graphs:
        functions = sorted(graph.graph_def.library.function, key=lambda function: function.signature.name)
        del graph.graph_def.library.function[:]
        graph.graph_def.library.function.extend(functions)
    file.write_bytes(saved.SerializeToString(deterministic=True))


def _rename(message: Any, name: Callable[[re.Match[str]], str]) -> None:
    """Name numbered functions anew wherever a protocol buffer has them, as keys of maps too; captured tensors alike."""

    def renamed(value: Any) -> Any:
        if isinstance(value, bytes):
            return renamed(value.decode()).encode() if value.startswith(b"__inference_") else value
        match = NUMBERED.fullmatch(value) if isinstance(value, str) else None
        return name(match) if match else value

    for field, value in message.ListFields():
        if isinstance(value, str | bytes):
            if renamed(value) != value:
                setattr(message, field.name, renamed(value))
        elif hasattr(value, "ListFields"):
            _rename(value, name)
        elif hasattr(value, "items"):
            for key, each in list(value.items()):
                if hasattr(each, "ListFields"):
                    _rename(each, name)
                    if key == "_user_specified_name" and each.s.isdigit():
                        each.s = b"captured"
                elif renamed(each) != each:
                    value[key] = renamed(each)
            if any(renamed(key) != key for key in value):
                entries = [(renamed(key), copy.deepcopy(each)) for key, each in value.items()]
                value.clear()
                for key, each in entries:
                    if hasattr(each, "ListFields"):
                        value[key].CopyFrom(each)
                    else:
                        value[key] = each
        elif field.message_type:
            for each in value:
                _rename(each, name)
        elif hasattr(value, "extend") and isinstance(value[0], str | bytes):
            value[:] = [renamed(each) for each in value]
