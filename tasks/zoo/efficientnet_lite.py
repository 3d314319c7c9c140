"""EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019): EfficientNet without what integers are slow at.

After tensorflow/tpu, models/official/efficientnet/lite: no squeeze-and-excite, ReLU6 in place of swish, and a stem and
an end that no width changes. Lite1 to Lite4 are depths of 1.1, 1.2, 1.4 and 1.8 and widths of 1, 1.1, 1.2 and 1.4.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import convolution, deepened, inverted, pooled, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

# How many times a block widens its channels, its window, its channels at width 1, how often it stands, strides.
BLOCKS = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """A convolution, sixteen inverted residuals at depth 1, and a convolution; the first and the last stand once."""
    import tensorflow as tf

    inputs, x = open_end(ends)
    x = convolution(x, widened(32, min(width, 1.0)), 3, 2, "stem", ceiling=6.0)
    number = 0
    for stage, (expansion, window, channels, count, strides) in enumerate(BLOCKS):
        for place in range(count if stage in (0, len(BLOCKS) - 1) else deepened(count, depth)):
            number += 1
            step = 1 if place else strides
            x = inverted(x, widened(channels, width), expansion, window, step, f"block{number}")
    x = convolution(x, widened(1280, min(width, 1.0)), 1, 1, "last", ceiling=6.0)
    x = tf.keras.layers.Dropout(0.2, name="dropout")(pooled(x))
    return close_end(ends, inputs, x, "efficientnet_lite")
