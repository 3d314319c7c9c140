"""Which tensors of a Keras graph are quantized to 8 bits, so that integer kernels have integers on all their sides."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from tasks.keras_graph.activations import activation_of
from tasks.keras_graph.rebuild import KERNELS, Call, kind

if TYPE_CHECKING:
    import tensorflow as tf

# What integer kernels compute beside the layers of `KERNELS`, where what they take is in integers already.
ARITHMETIC = frozenset(
    {
        "Add",
        "AveragePooling1D",
        "AveragePooling2D",
        "Concatenate",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "Multiply",
        "Subtract",
    }
)
# What only moves values or picks among them: a quantized tensor stays so.
MOVING = frozenset(
    {
        "Cropping1D",
        "Cropping2D",
        "Flatten",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "MaxPooling1D",
        "MaxPooling2D",
        "Permute",
        "RepeatVector",
        "Reshape",
        "ZeroPadding1D",
        "ZeroPadding2D",
    }
)
# Ranges that LiteRT's integer kernels prescribe for the outputs of these activations.
PRESCRIBED = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


def activation(layer: "tf.keras.layers.Layer") -> str:
    """The name of the function that an activation layer is; empty for any other."""
    if kind(layer) == "Activation":
        return activation_of(layer)
    return {"ReLU": "relu", "Softmax": "softmax"}.get(kind(layer), "")


def clips(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer is a Relu, with a ceiling or none: clipping that a kernel's own output range does as well."""
    if kind(layer) == "ReLU":
        return not layer.negative_slope and not layer.threshold
    return activation(layer) in ("relu", "relu6")


class Placement:
    """Answers for one flat graph, one thing a layer.

    A kernel's layer is in integers unless it is named to stay in float; arithmetic is where one of its sides is.
    Their outputs are quantized, after the Relu if nothing but a Relu takes them. Any other output is
    quantized if it goes to them, directly or moved.
    """

    def __init__(self, model: "tf.keras.Model", float_layers: Collection[str] = ()) -> None:
        self._integer: dict[int, bool] = {}
        self._feeds: dict[int, bool] = {}
        self._float_layers = frozenset(float_layers)
        for layer in model.layers:
            self.integer(layer)

    def integer(self, layer: "tf.keras.layers.Layer") -> bool:
        """Whether an integer kernel is to compute this layer."""
        if id(layer) not in self._integer:
            self._integer[id(layer)] = layer.name not in self._float_layers and (
                kind(layer) in KERNELS or (kind(layer) in ARITHMETIC and any(map(self._carries, _before(layer))))
            )
        return self._integer[id(layer)]

    def _carries(self, layer: "tf.keras.layers.Layer") -> bool:
        """Whether a layer's output stems from integers."""
        if kind(layer) in MOVING or clips(layer):
            return any(map(self._carries, _before(layer)))
        return self.integer(layer)

    def feeds(self, layer: "tf.keras.layers.Layer") -> bool:
        """Whether a layer's output goes to an integer kernel, directly or moved."""
        if id(layer) not in self._feeds:
            self._feeds[id(layer)] = any(
                self.integer(after) or (kind(after) in MOVING and self.feeds(after)) for after in _after(layer)
            )
        return self._feeds[id(layer)]

    def quantizes_output(self, call: Call) -> bool:
        """Whether a call's output is quantized."""
        if kind(call.layer) in MOVING:
            return False
        if self.integer(call.layer):
            return not self._clipped_after(call)
        return self.feeds(call.layer) or (clips(call.layer) and any(map(self.integer, call.producers)))

    @staticmethod
    def _clipped_after(call: Call) -> bool:
        return not call.leaves and len(call.followers) == 1 and clips(call.followers[0])


def _before(layer: "tf.keras.layers.Layer") -> list["tf.keras.layers.Layer"]:
    return [parent.layer for node in layer._inbound_nodes for parent in node.parent_nodes]


def _after(layer: "tf.keras.layers.Layer") -> list["tf.keras.layers.Layer"]:
    return [node.layer for node in layer._outbound_nodes]
