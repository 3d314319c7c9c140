"""A small U-Net (Ronneberger et al., 2015): an answer for each pixel of an image."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

CHANNELS = (16, 32, 64)  # of each level at width 1, each half as high and wide as the one before


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """Convolutions 3x3 with batch norm and ReLU, down two levels and up again, with each level's own beside it."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs, x = open_end(ends)
    levels = []
    for number, channels in enumerate(CHANNELS, 1):
        x = convolution(x, widened(channels, width), 3, 1 if number == 1 else 2, f"down{number}")
        levels.append(x)
    for number in range(len(CHANNELS) - 1, 0, -1):
        x = layers.UpSampling2D(2, name=f"up{number}")(x)
        x = layers.Concatenate(name=f"up{number}_beside")([levels[number - 1], x])
        x = convolution(x, widened(CHANNELS[number - 1], width), 3, 1, f"up{number}")
    return close_end(ends, inputs, x, "unet")
