"""Layer normalizations of whole sequences, on which TensorFlow's own graphs fail where oneDNN computes them."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

FUSED_FROM = 1.001e-5  # the epsilon from which Keras computes them as a batch normalization


def failing(model: "tf.keras.Model") -> str:
    """Why a model cannot be run as a graph, which `predict` and files need, and the way out; empty if it can.

    TensorFlow 2.21 takes what Keras does for `axis=[1, 2]` for its own kernel of layer normalization, which has one
    axis of weights (grappler's remapper). That happens on processors for which oneDNN is on, so a file that is made
    on another would fail there.
    """
    for layer in model._flatten_layers():
        if type(layer).__name__ != "LayerNormalization" or list(layer.axis) != [1, 2]:
            continue
        rank = len(layer.output_shape) if hasattr(layer, "output_shape") else 3  # inside a wrapper it knows none
        if rank == 3 and layer.scale and layer.center and layer.epsilon >= FUSED_FROM:
            shape = tuple(layer.gamma.shape)
            count = math.prod(shape)
            return (
                f"layer '{layer.name}' (LayerNormalization, axis=[1, 2]) fails in TensorFlow's graphs on processors "
                f"with oneDNN, and model.predict with it: put Reshape(({count},)), LayerNormalization(epsilon="
                f"{layer.epsilon:g}) and Reshape({shape}) in its place, with its gamma and beta as ({count},)"
            )
    return ""
