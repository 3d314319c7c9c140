"""MobileNetV1 at a quarter of its width, the visual wake words model of MLPerf Tiny (Banbury et al., 2021).

After mlcommons/tiny, benchmark/training/visual_wake_words/vww_model.py: 221,794 parameters for 96x96x3 images of 2
classes. The full-width architecture is that of Howard et al. (2017).
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, pooled, separable, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """A convolution and thirteen depthwise separable ones; width 1 is the reference's 0.25 of Howard's channels."""
    inputs, x = open_end(ends)
    x = convolution(x, widened(8, width), 3, 2, "stem")
    for number, (channels, strides) in enumerate(BLOCKS, 1):
        x = separable(x, widened(channels, width), strides, f"block{number}")
    return close_end(ends, inputs, pooled(x), "mobilenet")
