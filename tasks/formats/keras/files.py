"""Keras 2 models: our own files, written the same for the same model, and files that a user brings."""

import importlib
import importlib.metadata
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import ConversionError, ModelError
from tasks.data.heads import Head
from tasks.formats.keras import applications as keras_applications
from tasks.formats.keras.brought_file import ModelFile, look
from tasks.formats.keras.ends import check_heads, check_shapes, idle_inputs, places
from tasks.formats.keras.limits import allowance, check_tensors
from tasks.formats.keras3 import files as keras3
from tasks.keras_graph import precision_policies, traced
from tasks.keras_graph.activations import activation_name
from tasks.keras_graph.batch_independence import mixed_up
from tasks.keras_graph.ends import End, with_ends
from tasks.keras_graph.fused_norms import failing
from tasks.keras_graph.rebuild import carry, flat, is_adapted
from tasks.keras_graph.training_calls import unanswerable

if TYPE_CHECKING:
    import tensorflow as tf

FILE = "model.h5"


def version() -> str:
    """What these models are of, such as `tf-keras 2.21.0`."""
    return f"tf-keras {importlib.metadata.version('tf-keras')}"


def write(model: "tf.keras.Model", folder: Path) -> None:
    """Put a model in a folder as `model.h5`: architecture and weights; no optimizer, no time, no chance."""
    with warnings.catch_warnings():
        # Keras advises its own archive, which has the date in it
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        model.save(folder / FILE, save_format="h5", include_optimizer=False)


def load(folder: Path) -> "tf.keras.Model":
    """The model that `write` put in a folder; fake-quantized and pruned ones too."""
    import h5py
    import tensorflow as tf

    with h5py.File(folder / FILE, "r") as file:
        config = file.attrs["model_config"]
    text = config.decode() if isinstance(config, bytes) else str(config)
    with _scope(text):
        return tf.keras.models.load_model(folder / FILE, compile=False)


def import_model(path: Path, *, trust: bool, field: str = "model") -> "tf.keras.Model":
    """A user's file as a functional Keras 2 model; as `opened`."""
    return opened(path, trust=trust, field=field)[0]


def opened(path: Path, *, trust: bool, field: str = "model") -> tuple["tf.keras.Model", Any]:
    """A user's file as a functional Keras 2 model, and as the model that it is.

    The first is free of what the file keeps beside the model; the second is in the Keras that it was made with.

    Args:
        path: an `.h5` or `.keras` file, or a SavedModel folder.
        trust: run code that the file brings, such as Lambda layers.
        field: the recipe's name for the model, for messages.

    Raises:
        ModelError: not there, damaged, untrusted, larger than its file, no such model, or of Keras 3 with layers that
            have no like in Keras 2.

    """
    file = look(path, trust=trust, field=field)
    if file.keras == 3:
        model, source = keras3.import_file(file, trust=trust, field=field)
        return plain(model, str(path), field), source
    with _quiet():
        try:
            model, source = _loaded(file, trust)
        except Exception as error:  # a damaged file fails in whatever way its damage leads to
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                field,
                str(path),
                f"Keras 2 cannot build it ({type(error).__name__}: {reason}); if it has layers of your own, name the "
                "function that builds it as package.module:function",
            ) from error
    return plain(model, str(path), field), in_float32(source)


def _loaded(file: ModelFile, trust: bool) -> tuple["tf.keras.Model", "tf.keras.Model"]:
    import tensorflow as tf

    options: dict[str, Any] = {"safe_mode": not trust} if file.kind == "keras" else {}
    own = keras_applications.classes() if file.kind == "keras" else {}  # others do not say whose classes they name
    with allowance(file.values), tf.keras.utils.custom_object_scope(own | _forgotten()):
        source = tf.keras.models.load_model(file.path, compile=False, **options)
    if file.kind != "savedmodel":
        return source, source
    model = tf.keras.models.clone_model(source)  # drop the graphs that come with it, and keep layers
    carry(model, source.get_weights())
    return model, source


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Keras' remarks on a file's age."""
    import tensorflow as tf

    log = tf.get_logger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def in_float32(model: Any) -> Any:
    """The same model, of either Keras, computed in float32 all through; what is none comes back as it is."""
    if keras3.is_keras3(model):
        return keras3.in_float32(model)
    return precision_policies.in_float32(model) if getattr(model, "_is_graph_network", False) else model


def plain(model: Any, name: str, field: str) -> "tf.keras.Model":
    """A model that somebody brought as a functional one of Keras 2.

    Raises:
        ModelError: it is something else.

    """
    import tensorflow as tf

    if keras3.is_keras3(model):
        model = keras3.rebuilt(model, name, field)
    if not isinstance(model, tf.keras.Model):
        class_name = f"{type(model).__module__}.{type(model).__name__}"
        raise ModelError(field, name, f"is a {class_name}, not a Keras 2 model (tf-keras), nor one of Keras 3")
    if isinstance(model, tf.keras.Sequential) and model.built and model.inputs:
        model = tf.keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "get_layer") or not model.inputs or type(model).__name__ != "Functional":
        raise ModelError(
            field,
            name,
            "is not made of layers with a known input shape; build it with the functional API or tf.keras.Input",
        )
    check_tensors(model, name, field)
    if why := unanswerable(model):
        raise ModelError(field, name, why)
    try:
        model = keras_applications.in_plain_layers(precision_policies.in_float32(model))
        model = _with_layers_for_code(model)
    except ConversionError as error:
        raise ModelError(field, name, str(error)) from error
    if unknown := _unknown_classes(model):
        raise ModelError(
            field,
            name,
            f"{unknown[0]} is a class of your own, by which files of the model could not be opened again: put "
            "@tf.keras.utils.register_keras_serializable() above it, with a get_config for what it is built with; or "
            "build the model of Keras' own layers",
        )
    return model


def _unknown_classes(model: "tf.keras.Model") -> list[str]:
    """What of a model Keras could not find by the name that a file has of it: neither its own, nor registered."""
    unknown = []

    def visit(part: Any, inside: str) -> None:
        if isinstance(part, list | tuple):
            for item in part:
                visit(item, inside)
        if not isinstance(part, dict):
            return
        kind, module, registered = (str(part.get(key) or "") for key in ("class_name", "module", "registered_name"))
        settings = part.get("config")
        named = settings.get("name") if isinstance(settings, dict) else None
        inside = str(part.get("name") or named or inside)
        ours = module.startswith(("keras.", "tf_keras.", "tensorflow.", "builtins"))
        ours = ours and not keras_applications.is_own(kind, module)
        if kind and module and not ours and ">" not in registered:
            unknown.append(f"'{inside}' ({kind})")
        for value in part.values():
            visit(value, inside)

    with _quiet():
        visit(model.get_config(), model.name)
    return unknown


def _with_layers_for_code(model: "tf.keras.Model") -> "tf.keras.Model":
    """The model with layers for activations that are somebody's own code, which no file of Keras can hold.

    And with vocabularies in the config of lookup layers that were adapted to data.
    """
    for layer in model._flatten_layers():
        if is_adapted(layer):
            return flat(model)
        activation = getattr(layer, "activation", None)
        if callable(activation) and not hasattr(activation, "get_config") and not activation_name(activation):
            return flat(model)
    return model


def fitted(
    model: "tf.keras.Model", inputs: Mapping[str, tuple[int, ...]], heads: Sequence[Head], name: str, field: str
) -> "tf.keras.Model":
    """A model with its free axes set to the data's, its inputs and outputs in their order; nothing else is changed.

    Args:
        model: as `plain` gives it.
        inputs: the shape of one example, by the name of each of the data's inputs.
        heads: what its outputs are to be.
        name: what the user calls it, for messages.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: its inputs or outputs are others than the data's, by number, name or shape.

    """
    taken, given = places(model, list(inputs), [head.name for head in heads], name, field)
    check_shapes(model, inputs, taken, name, field)
    model = _with_ends_of(model, inputs, taken, [head.name for head in heads], given)
    check_heads(model, heads, name, field)
    if why := idle_inputs(model) or mixed_up(model) or failing(model):
        raise ModelError(field, name, why)
    return model


def _with_ends_of(
    model: "tf.keras.Model",
    inputs: Mapping[str, tuple[int, ...]],
    taken: Sequence[int],
    heads: Sequence[str],
    given: Sequence[int],
) -> "tf.keras.Model":
    """The model with float32 at its inputs, of the data's shapes, and all ends in the data's order."""
    import tensorflow as tf

    ends, as_they_are = [], len(inputs) == len(heads) == 1
    for (name, shape), place in zip(inputs.items(), taken, strict=True):
        own = model.inputs[place]
        free = tuple(own.shape) != (None, *shape)
        as_they_are = as_they_are and not free and own.dtype == tf.float32
        called = name if len(inputs) > 1 else "input" if free else model._input_layers[place].name
        ends.append(End(place, called, shape))
    return model if as_they_are else with_ends(model, ends, given, heads)


@contextmanager
def _scope(config: str) -> Iterator[None]:
    """Makes the classes known that a fake-quantized model is made of, if a config asks for any."""
    import tensorflow as tf

    known = _forgotten()
    if '"Quantize' in config:
        # Imported by name, as no other model depends on it; a fake-quantized one's own cache key already does.
        known |= importlib.import_module("tasks.quantization.fake_quantization").custom_objects()
    with tf.keras.utils.custom_object_scope(known):
        yield


def _forgotten() -> dict[str, Any]:
    """Layers of Keras 2 that it does not find by the name that it writes into files."""
    import tensorflow as tf

    traced.layer_class()  # which it finds once it was made
    return {"SpectralNormalization": tf.keras.layers.SpectralNormalization}
