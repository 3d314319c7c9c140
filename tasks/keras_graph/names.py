"""What the inputs and outputs of a Keras graph are called in every format, whatever a stage makes of the graph.

Layers are folded, split and wrapped, and outputs would be called otherwise each time. So where there are several, a
layer that does nothing stands behind each, and bears its name: it outlives every rebuild, and Keras' own files.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.named import identifier
from tasks.keras_graph.activations import activation_of

if TYPE_CHECKING:
    import tensorflow as tf

ANSWER = "__answer"  # such a layer is called as the output, and this


def signature_names(model: "tf.keras.Model") -> tuple[list[str], list[str]]:
    """What the inputs and outputs are called in every format, in the model's order.

    Inputs keep their layers' names, or the keys of a dict. One output is `probabilities` if a softmax gives it, else
    `output`; of several, each is called as the data's head, once it is pinned to it, and before that as Keras calls it.
    """
    keys = model._nested_inputs
    inputs = sorted(keys) if isinstance(keys, dict) else [layer.name for layer in model._input_layers]
    layers = model._output_layers
    if len(layers) == 1:
        softmax = type(layers[0]).__name__ == "Softmax" or activation_of(layers[0]) == "softmax"
        return list(map(identifier, inputs)), ["probabilities" if softmax else "output"]
    keys = model._nested_outputs
    if isinstance(keys, dict) and len(keys) == len(layers):
        return list(map(identifier, inputs)), list(map(identifier, sorted(keys)))
    outputs = [
        name.removesuffix(ANSWER) if is_pin(layer) else name
        for layer, name in zip(layers, model.output_names, strict=True)
    ]
    return list(map(identifier, inputs)), list(map(identifier, outputs))


def is_pin(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer does nothing but bear an output's name."""
    named = type(layer).__name__ == "Activation" and layer.name.endswith(ANSWER)
    return bool(named and activation_of(layer) == "linear")


def unpinned(tensor: Any) -> Any:
    """The tensor that a name is pinned to; itself if none is."""
    layer, node, _ = tensor._keras_history
    return layer._inbound_nodes[node].keras_inputs[0] if is_pin(layer) else tensor


def pinned(outputs: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """What a graph gives, each tensor behind a layer with its name; one alone, and those that have it, as they are.

    Args:
        outputs: tensors of layers.
        names: as files are to have them.

    """
    import tensorflow as tf

    if len(outputs) == 1:
        return list(outputs)
    made = []
    for tensor, name in zip(outputs, names, strict=True):
        layer = tensor._keras_history.layer
        if not (is_pin(layer) and layer.name == f"{name}{ANSWER}"):
            tensor = tf.keras.layers.Activation("linear", name=f"{name}{ANSWER}")(tensor)
        made.append(tensor)
    return made
