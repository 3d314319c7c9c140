"""MobileNetV2 (Sandler et al., 2018): blocks that widen, look at each channel by itself, and narrow again.

Its channels, strides and weights at width 1 are those of `tf.keras.applications.MobileNetV2`.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, deepened, inverted, pooled, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

# How many times a block widens its channels, its channels at width 1, how often it stands, strides of the first.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """A convolution, seventeen inverted residuals at depth 1, and a convolution to 1280 channels, at width 1."""
    inputs, x = open_end(ends)
    x = convolution(x, widened(32, width), 3, 2, "stem", ceiling=6.0)
    number = 0
    for expansion, channels, count, strides in BLOCKS:
        for place in range(deepened(count, depth)):
            number += 1
            step = 1 if place else strides
            x = inverted(x, widened(channels, width), expansion, 3, step, f"block{number}")
    x = convolution(x, widened(1280, width), 1, 1, "last", ceiling=6.0)
    return close_end(ends, inputs, pooled(x), "mobilenet_v2")
