"""EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019): EfficientNet without what integers are slow at.

After tensorflow/tpu, models/official/efficientnet/lite: no squeeze-and-excite, ReLU6 in place of swish, a stem and an
end that no width above 1 widens, and a first and a last stage that no depth repeats. Lite1 to Lite4 have depths of 1.1,
1.2, 1.4 and 1.8 and widths of 1, 1.1, 1.2 and 1.4, and there channels are rounded to multiples of 8.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import InvertedStage, convolution, inverted_stages, pooled, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

FIRST, *BETWEEN, LAST = (
    InvertedStage(1, 3, 16, 1, 1),
    InvertedStage(6, 3, 24, 2, 2),
    InvertedStage(6, 5, 40, 2, 2),
    InvertedStage(6, 3, 80, 3, 2),
    InvertedStage(6, 5, 112, 3, 1),
    InvertedStage(6, 5, 192, 4, 2),
    InvertedStage(6, 3, 320, 1, 1),
)


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """A convolution, sixteen inverted residuals at depth 1, and a convolution."""
    import tensorflow as tf

    inputs, x = open_end(ends)
    x = convolution(x, widened(32, min(width, 1.0)), 3, 2, "stem", ceiling=6.0)
    x = inverted_stages(x, [FIRST, *(stage.deeper(depth) for stage in BETWEEN), LAST], width)
    x = convolution(x, widened(1280, min(width, 1.0)), 1, 1, "last", ceiling=6.0)
    x = tf.keras.layers.Dropout(0.2, name="dropout")(pooled(x))
    return close_end(ends, inputs, x, "efficientnet_lite")
