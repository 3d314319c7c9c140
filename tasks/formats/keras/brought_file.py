"""What is in a user's model file, read before any of it is built: Keras runs whatever code a file asks it to.

A model's config names Python classes and functions, which Keras looks up and calls, and a Lambda layer holds bytecode.
So each name is compared with what Keras and TensorFlow themselves offer for computing. After the formats as tf_keras
2.21 writes them (saving/serialization_lib.py, saving/legacy/hdf5_format.py, layers/core/tf_op_layer.py), and Keras 3
(src/saving/saving_lib.py, src/legacy/saving/legacy_h5_format.py).
"""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.formats.keras import applications as keras_applications
from tasks.formats.keras.strings import refuse_strings
from tasks.formats.keras3.layers import leaves, refusals, taken

if TYPE_CHECKING:
    import h5py

Kind = Literal["h5", "keras", "savedmodel"]

MAX_BYTES = 4 << 30  # of weights that a file may announce: no model that gets compressed here has more
MAX_RATIO = 20  # of what a large file announces to what is in it: Keras compresses nothing
SMALL_BYTES = 64 << 20  # what any file may announce
MAX_CONFIG_BYTES = 64 << 20  # of JSON; the largest of keras.applications have two
MAX_DEPTH = 100  # of nesting in that JSON

# A config's objects come from these packages, and there from these parts, whoever wrote the file.
INITIALIZERS = "tensorflow.python.ops.init_ops_v2"  # TensorFlow's own, which EfficientNetV2 has
PACKAGES = ("keras.", "tf_keras.", "tensorflow.keras.", "tensorflow.python.keras.")
# fmt: off
PARTS = {
    "activations", "constraints", "engine", "initializers", "layers", "losses", "metrics", "mixed_precision", "models",
    "ops", "optimizers", "regularizers",
}
# fmt: on
# Layers of Keras that contain code, or read files that a config names.
# fmt: off
CODE = {
    "Lambda", "__lambda__", "TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty", "__typespec__",
    "FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper",
}
# fmt: on
READING = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}
# Operations that a TFOpLambda layer may wrap; others of TensorFlow write files, read them, or load libraries.
FAMILIES = ("math.", "nn.", "linalg.", "__operators__.", "keras.activations.")
# fmt: off
OPERATIONS = frozenset({
    "abs", "add", "argmax", "argmin", "broadcast_to", "cast", "clip_by_value", "concat", "cos", "cumsum", "divide",
    "einsum", "equal", "exp", "expand_dims", "gather", "greater", "greater_equal", "identity", "image.resize",
    "less", "less_equal", "matmul", "maximum", "minimum", "multiply", "negative", "norm", "not_equal", "one_hot",
    "ones_like", "pad", "pow", "realdiv", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum",
    "repeat", "reshape", "reverse", "roll", "round", "scalar_mul", "shape", "sigmoid", "sign", "sin", "slice",
    "space_to_depth", "depth_to_space", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient",
    "strided_slice", "subtract", "tan", "tanh", "tensordot", "tile", "transpose", "truediv", "unstack", "where",
    "zeros_like", "compat.v1.shape", "compat.v1.transpose", "compat.v1.gather", "compat.v1.nn.conv2d",
})
# Operations of a SavedModel's graph that reach outside it.
REACHING = frozenset({
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "WholeFileReaderV2",
    "TextLineReaderV2", "TFRecordReaderV2", "FixedLengthRecordReaderV2", "Save", "SaveSlices", "Restore",
    "RestoreSlice", "RemoteCall",
})
# fmt: on
# Layers whose output has the last axis of their input, so that the units of the dense layer before decide it.
KEEPING = {"Activation", "Softmax", "ReLU", "LeakyReLU", "ELU", "Dropout", "BatchNormalization", "Rescaling"}


@dataclass(frozen=True)
class ModelFile:
    """A model file that was looked at and is harmless, or trusted.

    config: the model's `{"class_name": …, "config": …}`; empty for a SavedModel, whose layers are known once built.
    values: numbers that are in it, of weights and whatever else.
    keras: the version that wrote it, 2 or 3.
    """

    path: Path
    kind: Kind
    config: dict[str, Any]
    values: int
    keras: int = 2

    @property
    def _layers(self) -> list[Any]:
        settings = self.config.get("config", {})
        layers = settings.get("layers", []) if isinstance(settings, dict) else settings
        return layers if isinstance(layers, list) else []

    @property
    def ends(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the model's inputs and outputs are called; one of each where the config does not say."""
        if self.config.get("class_name") != "Functional":
            return (ONE,), (ONE,)
        inputs, outputs = (_called(self.config["config"].get(key)) for key in ("input_layers", "output_layers"))
        return inputs or (ONE,), outputs or (ONE,)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """One example's, as far as the config says; None stands for an axis of any size, or for nothing known."""
        for layer in self._layers[:1]:
            settings = layer.get("config", {})
            shape = settings.get("batch_input_shape") or settings.get("batch_shape")
            shape = shape or (layer.get("build_config") or {}).get("input_shape")
            if isinstance(shape, list) and shape and isinstance(shape[0], int | None):
                return tuple(shape[1:])
        return None

    @property
    def output_units(self) -> int | None:
        """The size of a prediction's last axis, where a dense layer at the end says so."""
        layers = self._layers
        functional = self.config.get("class_name") == "Functional"
        named = {layer.get("name") or layer["config"].get("name"): layer for layer in layers}
        if functional:
            outputs = leaves(self.config["config"].get("output_layers"))
            layer = named.get(outputs[0][0]) if len(outputs) == 1 else None
        else:
            layer = layers[-1] if layers else None
        while layer is not None and layer["class_name"] in KEEPING:
            if functional:
                sources = [leaf for node in layer["inbound_nodes"] for leaf in taken(node) or leaves(node)]
                layer = named.get(sources[0][0]) if sources else None
            else:
                place = layers.index(layer)
                layer = layers[place - 1] if place else None
        return layer["config"].get("units") if layer is not None and layer["class_name"] == "Dense" else None


def _called(tensors: Any) -> tuple[str, ...]:
    """The names of tensors in a config: the keys of a dict, else of the layers that they are of."""
    if isinstance(tensors, dict) and len(leaves(tensors)) == len(tensors):
        return tuple(sorted(tensors))
    return tuple(name for name, _, _ in leaves(tensors))


def look(path: Path, *, trust: bool, field: str = "model") -> ModelFile:
    """Read what a model file announces, and refuse what must not be built.

    Args:
        path: an `.h5` or `.keras` file, or a SavedModel folder.
        trust: let code in the file pass.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: not there, damaged, of Keras 3, larger than a model can be, or (without trust) with code in it.

    """
    if path.is_dir():
        return ModelFile(path, "savedmodel", *_look_at_savedmodel(path, trust, field))
    if not path.is_file():
        raise ModelError(field, str(path), "there is no such file; give an .h5 or .keras file or a SavedModel folder")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        kind: Kind = "keras"
        config, values, version = _look_at_keras(path, field)
    elif start == b"\x89HDF\r\n\x1a\n":
        kind = "h5"
        config, values, version = _look_at_h5(path, field)
    else:
        raise ModelError(field, str(path), "is no Keras model file: neither HDF5 (.h5) nor a .keras archive")
    if not isinstance(config, dict) or "class_name" not in config or not isinstance(config.get("config"), dict | list):
        raise ModelError(field, str(path), "holds no model's config; save the whole model, not its weights alone")
    config.pop("compile_config", None)  # optimizer and losses, which nobody asks for
    if not trust:
        _refuse_code(config, str(path), field)
    refuse_strings(config, str(path), field)
    if version == 3:
        _refuse_unlike(config, path, field, trust)
    return ModelFile(path, kind, config, values, version)


def _refuse_unlike(config: dict[str, Any], path: Path, field: str, trust: bool) -> None:
    """Names what of a Keras 3 model cannot be rebuilt, before anything is imported for that."""
    try:
        unlike_layers = refusals(config, trust=trust)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(field, str(path), f"its config is damaged: {error!r}; save it again") from error
    if unlike_layers:
        raise unlike(field, str(path), unlike_layers)


def unlike(field: str, where: str, names: list[str]) -> ModelError:
    """A Keras 3 model has layers, named in `names`, that Keras 2 cannot be made to compute."""
    shown = "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")
    return ModelError(
        field,
        where,
        f"was made with Keras 3, and cannot be rebuilt in Keras 2: {shown}: replace what is named by layers that both "
        "have; or, if you trust whoever made it, set trust: true, by which Keras 3 itself is asked what most others do",
    )


def _look_at_h5(path: Path, field: str) -> tuple[Any, int, int]:
    with _hdf5(path, field) as file:
        version = 3 if _text(file.attrs.get("keras_version", "")).startswith("3") else 2
        if "model_config" not in file.attrs:
            raise ModelError(field, str(path), "holds weights only; save the whole model with model.save('model.h5')")
        values = _values(file, path, field)
        return _json(_text(file.attrs["model_config"]), path, field), values, version


def _look_at_keras(path: Path, field: str) -> tuple[Any, int, int]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                place = PurePosixPath(entry.filename.replace("\\", "/"))
                if place.is_absolute() or ".." in place.parts or ":" in entry.filename:
                    raise ModelError(
                        field, str(path), f"its entry {entry.filename!r} would leave the folder; do not use it"
                    )
            _refuse_huge(sum(entry.file_size for entry in entries), path, field)
            names = {entry.filename: entry for entry in entries}
            if len(names) != len(entries) or not {"config.json", "metadata.json", "model.weights.h5"} <= set(names):
                raise ModelError(
                    field, str(path), "is no .keras archive: config, metadata or weights are not there once"
                )
            if max(names[name].file_size for name in ("config.json", "metadata.json")) > MAX_CONFIG_BYTES:
                raise ModelError(
                    field, str(path), f"its config has more than {MAX_CONFIG_BYTES:,} bytes; do not use it"
                )
            metadata = _json(archive.read("metadata.json").decode(), path, field)
            written = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
            with archive.open("model.weights.h5") as weights, _hdf5(weights, field, path) as file:
                values = _values(file, path, field)
            config = _json(archive.read("config.json").decode(), path, field)
            return config, values, 3 if written.startswith("3") else 2
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise ModelError(field, str(path), f"is damaged: {error}; save it again") from error


def _refuse_huge(announced: int, path: Path, field: str) -> None:
    """A few bytes can stand for any number of them, which would fill the memory before anybody looks at them."""
    if announced > MAX_BYTES or announced > max(SMALL_BYTES, MAX_RATIO * path.stat().st_size):
        raise ModelError(
            field, str(path), f"announces {announced:,} bytes in a file of {path.stat().st_size:,}; do not use it"
        )


def _look_at_savedmodel(path: Path, trust: bool, field: str) -> tuple[dict[str, Any], int]:
    if not (path / "saved_model.pb").is_file():
        raise ModelError(field, str(path), "is no SavedModel: the folder has no saved_model.pb")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if size > MAX_BYTES:
        raise ModelError(field, str(path), f"has more than {MAX_BYTES:,} bytes")
    from google.protobuf.message import DecodeError  # has no annotations
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    saved, metadata = saved_model_pb2.SavedModel(), saved_metadata_pb2.SavedMetadata()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
        beside = path / "keras_metadata.pb"
        if beside.is_file():
            metadata.ParseFromString(beside.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError(field, str(path), f"is damaged: {error}; save it again") from error
    if not saved.meta_graphs:
        raise ModelError(field, str(path), "is damaged: it holds no graph; save it again")
    graph = saved.meta_graphs[0]
    texts = [node.metadata for node in metadata.nodes] or [
        node.user_object.metadata  # where it stood before TensorFlow 2.5
        for node in graph.object_graph_def.nodes
        if node.user_object.identifier.startswith("_tf_keras")
    ]
    if not any(texts):
        raise ModelError(
            field,
            str(path),
            "has no Keras layers in it, as model.export() leaves it; save it with model.save() as a .keras file",
        )
    if not trust:
        for text in filter(None, texts):
            part = _json(text, path, field)
            if isinstance(part, dict):
                part.pop("training_config", None)  # optimizer and losses, which nobody asks for
            _refuse_code(part, str(path), field)
        nodes = [*graph.graph_def.node]
        for function in graph.graph_def.library.function:
            nodes += function.node_def
        if reaching := sorted(REACHING.intersection(node.op for node in nodes)):
            raise _untrusted(field, str(path), f"its graph has {', '.join(reaching)}, which reaches outside it")
    return {}, size // 4  # of float32; what else lies there makes the bound no tighter


@contextmanager
def _hdf5(source: Any, field: str, path: Path | None = None) -> Iterator["h5py.File"]:
    """An HDF5 file that may be cut off or damaged anywhere."""
    import h5py

    where = str(path or source)
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(field, where, f"is damaged or cut off: {error}; save it again") from error


def _values(file: "h5py.File", path: Path, field: str) -> int:
    """How many numbers an HDF5 file holds; it can take them from other files, and announce any number of them."""
    import h5py

    values = total = 0
    seen: set[int] = set()  # a group may be linked many times, and from inside itself

    def visit(group: "h5py.Group") -> None:
        nonlocal values, total
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelError(field, str(path), f"its entry {name!r} points elsewhere; save the model again")
            entry = group[name]
            address = h5py.h5o.get_info(entry.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(entry, h5py.Group):
                visit(entry)
                continue
            if entry.external or entry.is_virtual:
                raise ModelError(field, str(path), f"its entry {name!r} lies in another file; save the model again")
            values += int(entry.size or 0)
            total += int(entry.size or 0) * entry.dtype.itemsize
            _refuse_huge(total, path, field)

    try:
        visit(file)
    except RecursionError as error:
        raise ModelError(field, str(path), "is nested without end; do not use it") from error
    return values


def _refuse_code(part: Any, where: str, field: str, depth: int = 0) -> None:
    """Goes through a config and refuses any object that is not one of Keras' own building blocks."""
    if depth > MAX_DEPTH:
        raise ModelError(field, where, f"its config is nested more than {MAX_DEPTH} deep; do not use it")
    if isinstance(part, list):
        for item in part:
            _refuse_code(item, where, field, depth + 1)
    if not isinstance(part, dict):
        return
    name, module, settings = (str(part.get(key) or "") for key in ("class_name", "module", "config"))
    if name in CODE or (name in READING and _reads(part.get("config"))):
        raise _untrusted(field, where, f"it has a {name} in it, which holds code or reads files")
    if name == "function":
        if module not in ("builtins", "keras.activations", "tf_keras.activations"):
            raise _untrusted(field, where, f"it calls {module}.{settings}")
    elif name == "TFOpLambda":
        operation = str(part["config"].get("function")) if isinstance(part.get("config"), dict) else ""
        if operation not in OPERATIONS and not operation.startswith(FAMILIES):
            raise _untrusted(field, where, f"it calls tf.{operation}")
    elif not keras_applications.is_own(name, module) and (
        not set(name).isdisjoint(".>") or (module and not _of_keras(module))
    ):
        raise _untrusted(field, where, f"it asks for {module}.{name}".replace(" .", " "))
    if ">" in str(part.get("registered_name")).removeprefix(f"Custom>{name}"):  # Keras looks for it before the class
        raise _untrusted(field, where, f"it asks for {part['registered_name']}")
    for value in part.values():
        _refuse_code(value, where, field, depth + 1)


def _reads(settings: Any) -> bool:
    """Whether a lookup layer names a file, or whatever else than its tokens."""
    given = [settings.get(key) for key in ("vocabulary", "idf_weights")] if isinstance(settings, dict) else [""]
    return not all(isinstance(value, list | None) for value in given)


def _of_keras(module: str) -> bool:
    return module in ("keras", "tf_keras", "builtins", INITIALIZERS) or (
        module.startswith(PACKAGES) and not PARTS.isdisjoint(parts := module.split(".")) and "utils" not in parts
    )


def _untrusted(field: str, where: str, what: str) -> ModelError:
    return ModelError(
        field,
        where,
        f"{what}: replace that by layers of Keras, or, if you trust whoever made the file, set trust: true",
    )


def _json(text: str, path: Path, field: str) -> Any:
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelError(field, str(path), f"its config has more than {MAX_CONFIG_BYTES:,} characters; do not use it")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(field, str(path), f"its config is damaged: {error}; save it again") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
