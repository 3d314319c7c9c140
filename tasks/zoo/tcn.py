"""A temporal convolutional network (Bai et al., 2018): each block sees twice as far back as the one before it."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import MOMENTUM, deepened, widened
from tasks.zoo.ends import ModelEnds, close_end, open_sequence

if TYPE_CHECKING:
    import tensorflow as tf

WINDOW = 3


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """Sequences `(batch, steps, values)` or ids of words: four blocks of 32 channels, and what the last step knows.

    Batch norm stands where the paper has weight norm, which training needs as much, and which folds into integers.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    channels = widened(32, width)

    def causal(x: "tf.Tensor", dilation: int, name: str) -> "tf.Tensor":
        x = layers.Conv1D(
            channels,
            WINDOW,
            padding="causal",
            dilation_rate=dilation,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)

    inputs, x = open_sequence(ends, channels)
    for number in range(deepened(4, depth)):
        name = f"block{number + 1}"
        y = layers.ReLU(name=f"{name}_first_relu")(causal(x, 2**number, f"{name}_first"))
        y = causal(y, 2**number, f"{name}_second")
        if x.shape[-1] != channels:
            x = layers.Conv1D(channels, 1, kernel_initializer="he_normal", name=f"{name}_past_conv")(x)
        x = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))
    if x.shape[1] > 1:
        x = layers.Cropping1D((x.shape[1] - 1, 0), name="last_step")(x)
    return close_end(ends, inputs, layers.Flatten(name="features")(x), "tcn")
