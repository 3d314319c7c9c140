"""What layers and operations of a Keras 3 model compute by themselves, where no layer of Keras 2 does.

Keras 3 computes them on tensors of TensorFlow, and what it does there is traced into a layer of Keras 2.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.formats.keras3.layers import MODELS, Entry
from tasks.formats.keras3.masked_calls import Caller
from tasks.formats.keras3.tensors import is_tensor
from tasks.keras_graph.batch_independence import SIZES
from tasks.keras_graph.traced import Weight, traced


class Untraceable(Exception):
    """A layer that cannot be traced; its message names it."""


class Theirs:
    """The layers and operations of a Keras 3 model, by name."""

    def __init__(self, model: Any = None, *, trust: bool = False) -> None:
        """Of a model, or, without one, of those that configs describe. With `trust`, code of others may run."""
        self.trust = trust
        self._parts = {part.name: part for part in _parts(model)} if model is not None else {}

    def function(self, name: str) -> Any:
        """What a Lambda layer calls."""
        return self._parts[name].function

    def caller(self, entry: Entry) -> Caller:
        """A function that answers a call of a layer or an operation with a traced layer of its name.

        Raises:
            Untraceable: from that function; what it is called with is nothing that can be traced.

        """
        name = str(entry["config"].get("name") or entry.get("name"))
        part = self._parts[name] if name in self._parts else _deserialized(entry)
        made: dict[Any, Any] = {}

        def answer(args: list[Any], kwargs: dict[str, Any]) -> Any:
            import tensorflow as tf

            flat = tf.nest.flatten([args, kwargs])
            tensors = [value for value in flat if is_tensor(value)]
            others = [str(value) for value in flat if not is_tensor(value)]
            key = str(([(tensor.shape, tensor.dtype) for tensor in tensors], others, sorted(kwargs)))
            if made and key not in made and getattr(part, "weights", None):
                raise Untraceable(
                    f"'{name}' ({entry['class_name']}) is called in several ways, with tensors of other shapes: call "
                    "it with one"
                )
            if key not in made:
                try:
                    made[key] = _traced(part, args, kwargs, name if not made else f"{name}_{len(made) + 1}")
                except Exception as error:  # code of others raises whatever it likes
                    reason = " ".join(str(error).split())[:300]
                    raise Untraceable(
                        f"'{name}' ({entry['class_name']}) cannot be traced by TensorFlow ({type(error).__name__}: "
                        f"{reason})"
                    ) from error
            return made[key](tensors if len(tensors) > 1 else tensors[0])

        return answer


def weights_of(part: Any) -> list[Any]:
    """A layer's weights in the order in which its traced like has them; none of an operation."""
    return sorted(getattr(part, "weights", ()), key=lambda weight: not weight.trainable)


def operations(model: Any) -> list[Any]:
    """The layers and operations of a Keras 3 model."""
    return list(getattr(model, "operations", None) or model.layers)


def with_vocabularies(part: Any, model: Any = None) -> Any:
    """A config whose IntegerLookups have what they learned from data, which Keras 3 keeps beside it.

    Args:
        part: of the config.
        model: that has learned; without one, something stands for what it has.

    """
    if isinstance(part, list):
        return [with_vocabularies(item, model) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") != "IntegerLookup" or not isinstance(part.get("config"), dict):
        return {key: with_vocabularies(value, model) for key, value in part.items()}
    if part["config"].get("vocabulary") is not None:
        return part
    learned = [0]
    for layer in _parts(model) if model is not None else ():
        if layer.name == part["config"].get("name") and hasattr(layer, "get_vocabulary"):
            learned = [int(token) for token in layer.get_vocabulary(include_special_tokens=False)]
    return {**part, "config": {**part["config"], "vocabulary": learned}}


def _parts(model: Any) -> Iterator[Any]:
    for part in operations(model):
        yield part
        if type(part).__name__ in MODELS:
            yield from _parts(part)


def _deserialized(entry: Entry) -> Any:
    """A layer or an operation of Keras' own, by its config."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # it reads that when it is first imported
    import keras

    keys = ("module", "class_name", "config", "registered_name")
    return keras.saving.deserialize_keras_object({key: entry.get(key) for key in keys})


def _traced(part: Any, args: list[Any], kwargs: dict[str, Any], name: str) -> Any:
    import keras
    import tensorflow as tf

    flat = tf.nest.flatten([args, kwargs])
    places = [place for place, value in enumerate(flat) if is_tensor(value)]

    def called(tensors: list[Any]) -> Any:
        filled = list(flat)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        own_args, own_kwargs = tf.nest.pack_sequence_as([args, kwargs], filled)
        if getattr(part, "_call_has_training_arg", False):
            own_kwargs["training"] = bool(own_kwargs.get("training"))
        return part(*own_args, **own_kwargs)

    # which builds it too, if it is not built yet
    known_outputs = called([keras.KerasTensor(flat[place].shape, flat[place].dtype.name) for place in places])
    shapes = [tuple(each.shape) for each in tf.nest.flatten(known_outputs)]
    variables = weights_of(part)
    own = {id(each) for each in variables}
    others = [(each, np.asarray(each)) for each in getattr(part, "variables", ()) if id(each) not in own]

    def computed(tensors: list[Any], weights: list[Any]) -> list[Any]:
        known = [*zip(variables, weights, strict=True), *((each, tf.constant(value)) for each, value in others)]
        with keras.StatelessScope(state_mapping=known):
            return list(tf.nest.flatten(called(tensors)))

    values = [Weight(np.asarray(each), bool(each.trainable)) for each in variables]
    tensors = [flat[place] for place in places]
    return traced(computed, tensors, values, name=name, shapes=shapes, input_dim=_choices(part))


def _choices(part: Any) -> int | None:
    """How many whole numbers a layer's inputs may choose among, where layers inside it tell."""
    inner = part._flatten_layers() if hasattr(part, "_flatten_layers") else ()
    sizes = [getattr(each, size) for each in inner for size in SIZES if isinstance(getattr(each, size, None), int)]
    return min(sizes, default=None)
