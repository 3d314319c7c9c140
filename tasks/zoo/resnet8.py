"""ResNet-8, the image classification model of MLPerf Tiny (Banbury et al., 2021; He et al., 2016).

After mlcommons/tiny, benchmark/training/image_classification/keras_model.py: 78,666 parameters for 32x32x3 images of 10
classes. Its L2 penalty of 1e-4 is FitConfig's `weight_decay` here.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, pooled, residual, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """A convolution and three residual stacks of 16, 32 and 64 channels at width 1; the later two halve the image."""
    inputs, x = open_end(ends)
    x = convolution(x, widened(16, width), 3, 1, "stem")
    for number, channels in enumerate((16, 32, 64), 1):
        x = residual(x, widened(channels, width), 1 if number == 1 else 2, f"stack{number}")
    return close_end(ends, inputs, pooled(x), "resnet8")
