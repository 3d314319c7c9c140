"""Layers that a format has no operators for, replaced by layers that compute the same."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.keras_graph.rebuild import Call, Copies, carry, flat, free_names, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf

# From a layer, its input, and a name: what stands for it, by that name; none if the layer can stay.
Replacement = Callable[["tf.keras.layers.Layer", Any, str], "tf.keras.layers.Layer | None"]


def replaced(model: "tf.keras.Model", rules: Mapping[str, Replacement]) -> "tf.keras.Model":
    """The same function without the layers that a rule replaces; in a TimeDistributed too.

    Args:
        model: flat. Its layers are copied.
        rules: by a layer's class. They are asked about layers that are called with one tensor and nothing else.

    """
    if not any(kind(part) in rules for layer in model.layers for part in layer._flatten_layers()):
        return model
    copies, free = Copies(), free_names(layer.name for layer in model.layers)
    made: dict[int, dict[tuple[int | None, ...], Any]] = {}  # by layer, and by the shape of its input

    def answer(call: Call) -> Any:
        layer, (x, *more) = call.layer, call.args
        settings = any(value is not None for key, value in call.kwargs.items() if key != "training")
        if not (more or settings or isinstance(x, list | tuple | dict)):
            stand_ins = made.setdefault(id(layer), {})
            shape = tuple(x.shape)
            if shape not in stand_ins:
                stand_ins[shape] = _instead(layer, x, free(layer.name) if stand_ins else layer.name, rules)
            if stand_ins[shape] is not None:
                return stand_ins[shape](x)
        return copies.call(layer, call.args, call.kwargs)

    return rebuild(model, answer)


def _instead(
    layer: "tf.keras.layers.Layer", x: Any, name: str, rules: Mapping[str, Replacement]
) -> "tf.keras.layers.Layer | None":
    import tensorflow as tf

    if kind(layer) != "TimeDistributed":
        return rules[kind(layer)](layer, x, name) if kind(layer) in rules else None
    if not any(kind(part) in rules for part in layer._flatten_layers()):
        return None
    inputs = tf.keras.Input(x.shape[2:], dtype=x.dtype)
    copies = Copies()
    inner = tf.keras.Model(inputs, copies.call(layer.layer, (inputs,), {}), name=layer.layer.name)
    return tf.keras.layers.TimeDistributed(replaced(flat(inner), rules), name=name)


def like(layer: "tf.keras.layers.Layer", **changes: Any) -> "tf.keras.layers.Layer":
    """A layer of the same class with other settings, and the weights of this one once it is built."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    build = copy.build

    def filled(shape: Any) -> None:
        build(shape)
        carry(copy, layer.get_weights())

    copy.build = filled
    return copy
