"""DS-CNN, the keyword spotting model of MLPerf Tiny (Banbury et al., 2021; Zhang et al., 2017).

After mlcommons/tiny, benchmark/training/keyword_spotting/keras_model.py: 24,908 parameters for 49x10 spectra of 12
words. The reference's pooling window leaves out the last row of an odd height; this one covers all.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, pooled, separable, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """A 10x4 convolution of 64 channels at width 1 that halves the spectrum, and four depthwise separable ones."""
    import tensorflow as tf

    filters = widened(64, width)
    inputs, x = open_end(ends)
    x = convolution(x, filters, (10, 4), 2, "stem")
    x = tf.keras.layers.Dropout(0.2, name="stem_dropout")(x)
    for number in range(1, 5):
        x = separable(x, filters, 1, f"block{number}")
    x = tf.keras.layers.Dropout(0.4, name="dropout")(x)
    return close_end(ends, inputs, pooled(x), "ds_cnn")
