"""A small convolutional network for texts, after Kim (2014): what is said anywhere in two, three or four words."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import widened
from tasks.zoo.ends import ModelEnds, close_end, open_sequence

if TYPE_CHECKING:
    import tensorflow as tf

WIDTHS = (2, 3, 4)  # words that a convolution sees together


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """Ids of words `(batch, words)`: 32 numbers for each, and 32 channels of each window, at width 1."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs, embedded = open_sequence(ends, widened(32, width))
    embedded = layers.Dropout(0.2, name="embedding_dropout")(embedded)
    seen = []
    for words in WIDTHS:
        x = layers.Conv1D(
            widened(32, width), words, padding="same", kernel_initializer="he_normal", name=f"words{words}_conv"
        )(embedded)
        seen.append(layers.GlobalMaxPooling1D(name=f"words{words}_pool")(layers.ReLU(name=f"words{words}_relu")(x)))
    x = layers.Dropout(0.5, name="dropout")(layers.Concatenate(name="features")(seen))
    return close_end(ends, inputs, x, "words")
