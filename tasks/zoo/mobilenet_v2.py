"""MobileNetV2 (Sandler et al., 2018): blocks that widen, look at each channel by itself, and narrow again.

Its channels, strides and weights at width 1 are those of `tf.keras.applications.MobileNetV2`.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import InvertedStage, convolution, inverted_stages, pooled, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

STAGES = (
    InvertedStage(1, 3, 16, 1, 1),
    InvertedStage(6, 3, 24, 2, 2),
    InvertedStage(6, 3, 32, 3, 2),
    InvertedStage(6, 3, 64, 4, 2),
    InvertedStage(6, 3, 96, 3, 1),
    InvertedStage(6, 3, 160, 3, 2),
    InvertedStage(6, 3, 320, 1, 1),
)


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """A convolution, seventeen inverted residuals at depth 1, and a convolution to 1280 channels, at width 1."""
    inputs, x = open_end(ends)
    x = convolution(x, widened(32, width), 3, 2, "stem", ceiling=6.0)
    x = inverted_stages(x, [stage.deeper(depth) for stage in STAGES], width)
    x = convolution(x, widened(1280, width), 1, 1, "last", ceiling=6.0)
    return close_end(ends, inputs, pooled(x), "mobilenet_v2")
