"""A small transformer encoder (Vaswani et al., 2017), for sequences and texts.

Norms stand in front of what they feed (Xiong et al., 2020), which trains without a warm-up. Where a step stands is told
by a convolution over its neighbours (Chu et al., 2021), which is in integers, where a table of positions is not.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import deepened, widened
from tasks.zoo.ends import ModelEnds, close_end, open_sequence

if TYPE_CHECKING:
    import tensorflow as tf

HEADS, WINDOW, DROPOUT = 4, 3, 0.1


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """Sequences `(batch, steps, values)` or ids of words: two blocks of 64 channels, and their mean over the steps."""
    import tensorflow as tf

    layers = tf.keras.layers
    size = widened(16, width)  # of each head
    channels = HEADS * size
    inputs, x = open_sequence(ends, channels)
    x = layers.Dense(channels, name="steps")(x)
    x = layers.Add(name="placed")([x, layers.Conv1D(channels, WINDOW, padding="same", name="places")(x)])
    for number in range(1, deepened(2, depth) + 1):
        name = f"block{number}"
        y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_attention_norm")(x)
        y = layers.MultiHeadAttention(HEADS, size, dropout=DROPOUT, name=f"{name}_attention")(y, y)
        x = layers.Add(name=f"{name}_attention_add")([x, y])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
        y = layers.ReLU(name=f"{name}_relu")(layers.Dense(2 * channels, name=f"{name}_wide")(y))
        y = layers.Dropout(DROPOUT, name=f"{name}_dropout")(layers.Dense(channels, name=f"{name}_narrow")(y))
        x = layers.Add(name=f"{name}_add")([x, y])
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return close_end(ends, inputs, layers.GlobalAveragePooling1D(name="features")(x), "transformer")
