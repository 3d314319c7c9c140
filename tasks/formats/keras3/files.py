"""Models of Keras 3 as models of Keras 2, which is the one that tensorflow-model-optimization works with.

A model is rebuilt from its config alone, before Keras 3 sees the file: only layers that are known here come out of
that, with no more weights than the file holds. Then Keras 3 opens it, the weights are carried over, and both have to
give the same answers. Layers keep their names. All is computed in float32, mixed precision too.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ModelError
from tasks.formats.keras.brought_file import ModelFile
from tasks.formats.keras3.compare import Different, first_difference
from tasks.formats.keras3.graph import built
from tasks.formats.keras3.layers import MODELS, policy_of
from tasks.formats.keras3.own_classes import as_graph, custom_objects
from tasks.formats.keras3.theirs import Theirs, operations, weights_of, with_vocabularies
from tasks.keras_graph.rebuild import carry

if TYPE_CHECKING:
    import tensorflow as tf


def is_keras3(model: Any) -> bool:
    """Whether something is a model of Keras 3; it is not imported for that."""
    return any(f"{base.__module__}.".startswith("keras.") and base.__name__ == "Model" for base in type(model).__mro__)


def import_file(file: ModelFile, *, trust: bool, field: str) -> tuple["tf.keras.Model", Any]:
    """A file of Keras 3 as a model of Keras 2, and as the model that it is.

    Args:
        file: a `.keras` archive or an `.h5` file.
        trust: run code that the file brings, such as Lambda layers.
        field: the recipe's name for the model, for messages.

    Raises:
        ModelError: damaged, or with layers that have no like in Keras 2, which it names.

    """
    name = str(file.path)
    if trust:  # what it calls is known once it is open
        source = as_graph(_opened(file, trust, field), name, field)
        return rebuilt(source, name, field), in_float32(source)
    config = with_vocabularies(file.config)
    model = built(config, Theirs(), name, field, values=file.values)
    source = in_float32(_opened(file, trust, field))
    if config != file.config:  # now that it is known that it is no larger than its file
        model = built(with_vocabularies(file.config, source), Theirs(), name, field, values=file.values)
    return _carried(model, source, name, field), source


def rebuilt(model: Any, name: str, field: str) -> "tf.keras.Model":
    """A Keras 3 model as one of Keras 2 with the same weights and answers.

    Args:
        model: functional or sequential, built.
        name: what the user calls it, for messages.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: it is neither, or has layers that have no like in Keras 2, which it names.

    """
    model = in_float32(as_graph(model, name, field))
    with _quiet():
        config = with_vocabularies(json.loads(model.to_json()), model)
    return _carried(built(config, Theirs(model, trust=True), name, field), model, name, field)


def _opened(file: ModelFile, trust: bool, field: str) -> Any:
    """A file's model, by Keras 3 itself."""
    path = file.path
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # it reads that when it is first imported
    import keras

    own = custom_objects(file.config, str(path), field) if trust else {}
    try:
        with _quiet():
            return keras.saving.load_model(path, own, compile=False, safe_mode=not trust)
    except Exception as error:  # a damaged file fails in whatever way its damage leads to
        raise ModelError(
            field,
            str(path),
            f"Keras {keras.__version__} cannot open it ({type(error).__name__}: {_line(error)}); save it again as a "
            ".keras file",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks on a file's age or on what cannot be named in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _carried(model: "tf.keras.Model", source: Any, name: str, field: str) -> "tf.keras.Model":
    """The model with another's weights, once both gave the same answers."""
    _carry(model, source, name, field)
    try:
        with _quiet():
            first_difference(model, source)
    except Different as error:
        raise ModelError(
            field, name, f"{error}: replace that layer, or build the model with tf-keras (TF_USE_LEGACY_KERAS=1)"
        ) from error
    return model


def in_float32(model: Any) -> Any:
    """The same Keras 3 model, computed in float32 all through."""
    import keras

    if all(layer.dtype_policy.name == "float32" for layer in model._flatten_layers()):
        return model
    with _quiet():
        config = json.loads(model.to_json())
        twin = keras.saving.deserialize_keras_object(_with_float32(config), safe_mode=False)  # it is built already
    twin.set_weights([np.asarray(weight, np.float32) for weight in model.get_weights()])
    return twin


def _with_float32(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_float32(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: "float32"
        if key == "dtype" and policy_of(part) in ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
        else _with_float32(value)
        for key, value in part.items()
        if key != "compile_config"
    }


def _carry(model: "tf.keras.Model", source: Any, name: str, field: str) -> None:
    """Weights by layer and position.

    Raises:
        ModelError: a layer has others here than there.

    """
    for layer in operations(source):
        values = layer.get_weights() if hasattr(layer, "get_weights") else []
        if not values:
            continue
        own = model.get_layer(layer.name)
        if type(layer).__name__ in MODELS:
            _carry(own, layer, name, field)
            continue
        if type(own).__name__ == "Traced":
            values = [np.asarray(weight) for weight in weights_of(layer)]
        if type(layer).__name__ == "SpectralNormalization":  # which has its own behind those of the layer in it
            names = [weight.name for weight in layer.weights]
            values = [values[place] for place in sorted(range(len(values)), key=lambda i: names[i] == "vector_u")]
        if type(layer).__name__ == "Normalization" and len(values) == 2:
            values.append(np.zeros((), np.int64))  # how many examples it has seen, which the first of Keras 3 left out
        shapes, expected = [value.shape for value in values], [tuple(weight.shape) for weight in own.weights]
        if shapes != expected:
            raise ModelError(
                field,
                name,
                f"its layer '{layer.name}' ({type(layer).__name__}) has weights of shapes {shapes}, where Keras 2 has "
                f"{expected}: replace that layer",
            )
        carry(own, values)
