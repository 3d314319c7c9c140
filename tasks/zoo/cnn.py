"""A small convolutional network for small images: four blocks, two of which halve the image."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, pooled, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2))  # channels at width 1, strides


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """Convolutions 3x3 with batch norm and ReLU, the mean over positions, and a dense layer."""
    inputs, x = open_end(ends)
    for number, (channels, strides) in enumerate(BLOCKS, 1):
        x = convolution(x, widened(channels, width), 3, strides, f"block{number}")
    return close_end(ends, inputs, pooled(x), "cnn")
