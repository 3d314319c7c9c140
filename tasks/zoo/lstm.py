"""A long short-term memory (Hochreiter and Schmidhuber, 1997), for sequences and texts."""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import deepened, widened
from tasks.zoo.ends import ModelEnds, close_end, open_sequence

if TYPE_CHECKING:
    import tensorflow as tf


def build(ends: ModelEnds, width: float, depth: float = 1.0) -> "tf.keras.Model":
    """Sequences `(batch, steps, values)` or ids of words: one layer of 64 units, and what it knows after the last step.

    Behind the end of a text there are no words, and its steps do not count.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    units, count = widened(64, width), deepened(1, depth)
    inputs, x = open_sequence(ends, widened(32, width), mask=True)
    for number in range(1, count + 1):
        x = layers.LSTM(units, return_sequences=number < count, name=f"lstm{number}")(x)
    return close_end(ends, inputs, x, "lstm")
