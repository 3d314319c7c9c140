"""What an activation is: one that Keras knows by name, a layer, or somebody's own code; and what stands for it."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import ConversionError

if TYPE_CHECKING:
    import tensorflow as tf

RENAMED = {"softmax_v2": "softmax"}  # TensorFlow's own name for what tf.nn.softmax is


def activation_name(activation: Any) -> str:
    """The name under which Keras knows an activation, such as `linear` or `relu`; empty for all that it does not know.

    A function is known by what it is, not by what it is called: somebody's own `relu` is not Keras' one.
    """
    import tensorflow as tf

    if isinstance(activation, tf.keras.layers.Softmax):
        return "softmax" if activation.axis == -1 else ""
    name = str(getattr(activation, "__name__", ""))
    name = RENAMED.get(name, name)
    known = (getattr(place, name, None) for place in (tf.keras.activations, tf.nn))
    return name if any(function is activation for function in known if function is not None) else ""


def activation_of(layer: "tf.keras.layers.Layer") -> str:
    """The name of the activation that a layer ends with: `linear` if it has none, empty if Keras has no name for it."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else activation_name(activation)


def ends_with_activation(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer's activation is the last thing that it does, and so can be a layer of its own."""
    import tensorflow as tf

    layers = tf.keras.layers
    convolution = layers.Conv1D.__mro__[1]  # the base of all of them, which has no public name
    local = layers.LocallyConnected1D, layers.LocallyConnected2D
    return isinstance(layer, (layers.Dense, layers.EinsumDense, layers.Activation, convolution, *local))


def stands_alone(activation: Any) -> bool:
    """Whether an activation does the same as a layer behind the one that it belongs to: not if it would see a mask."""
    import tensorflow as tf

    if not isinstance(activation, tf.keras.layers.Layer):
        return True
    return bool(activation.supports_masking and not activation._expects_mask_arg)


def check_activations(layer: "tf.keras.layers.Layer") -> None:
    """Refuse somebody's own code as an activation inside a layer, such as a recurrent one: no layer can stand for it.

    Raises:
        ConversionError: there is some.

    """
    import tensorflow as tf

    for part in layer._flatten_layers():
        if not type(part).__module__.startswith("tf_keras."):  # what is somebody's own knows how it is kept
            continue
        for key in ("activation", "recurrent_activation"):
            function = getattr(part, key, None)
            if callable(function) and not isinstance(function, tf.keras.layers.Layer) and not activation_name(function):
                raise ConversionError(
                    f"layer '{layer.name}' ({type(layer).__name__}) has {_shown(function)} as its {key}, which no "
                    "Keras file can hold: name one of Keras' activations there, such as 'tanh'"
                )


def standing_for(activation: Any, name: str, owner: str) -> "tf.keras.layers.Layer":
    """A new layer that computes what an activation without a name does, its weights whatever they begin with.

    Args:
        activation: a layer, a partial or a function.
        name: the new layer's.
        owner: the layer whose activation it is, for messages.

    Raises:
        ConversionError: no Keras file could hold it.

    """
    import tensorflow as tf

    if isinstance(activation, tf.keras.layers.Layer):
        return type(activation).from_config({**activation.get_config(), "name": name})
    settings: dict[str, Any] = {}
    function = activation
    if isinstance(activation, functools.partial) and not activation.args:
        function, settings = activation.func, activation.keywords
        made = _known(function, settings)
        if made is not None:
            return made(name)
    layer = tf.keras.layers.Lambda(function, arguments=settings or None, mask=_same_mask, name=name)
    try:
        json.dumps(layer.get_config())
    except (TypeError, AttributeError) as error:  # a closure over what is no plain value, or no function at all
        raise ConversionError(
            f"layer '{owner}' has {_shown(activation)} as its activation, which no Keras file can hold: put a layer "
            "behind it instead, such as tf.keras.layers.LeakyReLU(0.1), or tf.keras.layers.Lambda of a function that "
            "needs nothing from around it"
        ) from error
    return layer


def _same_mask(_: Any, mask: Any = None) -> Any:
    return mask


def _known(function: Any, settings: dict[str, Any]) -> Callable[[str], "tf.keras.layers.Layer"] | None:
    """The layer that Keras has for a function with these settings, if it has one; takes the layer's name."""
    import tensorflow as tf

    layers, activations = tf.keras.layers, tf.keras.activations
    if function not in (tf.nn.leaky_relu, activations.relu, activations.elu):
        return None
    bound = inspect.signature(function).bind(None, **settings)
    bound.apply_defaults()
    values = bound.arguments
    if function is tf.nn.leaky_relu:
        return lambda name: layers.LeakyReLU(values["alpha"], name=name)
    if function is activations.relu:
        return lambda name: layers.ReLU(values["max_value"], values["alpha"], values["threshold"], name=name)
    return lambda name: layers.ELU(values["alpha"], name=name)


def _shown(function: Any) -> str:
    return str(getattr(function, "__name__", "") or repr(function))[:100]
