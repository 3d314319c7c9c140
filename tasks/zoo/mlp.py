"""A small multilayer perceptron, for tables and for the smallest images."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import flat, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """Two dense layers of 128 and 64 units at width 1, each with ReLU."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs, x = open_end(ends)
    x = flat(x)
    for number, units in enumerate((128, 64), 1):
        x = layers.Dense(widened(units, width), kernel_initializer="he_normal", name=f"dense{number}")(x)
        x = layers.ReLU(name=f"dense{number}_relu")(x)
    return close_end(ends, inputs, x, "mlp")
