"""What is folded before files are made answers as it did."""

import numpy as np
import pytest

from tasks.keras_graph.folding import fold, split


@pytest.mark.parametrize(
    ("size", "strides", "padding", "mean"),
    [
        (6, None, "valid", True),
        (6, 1, "same", False),
        (6, None, "same", True),
        (9, 1, "same", False),
        (3, 2, "same", False),
    ],
)
def test_only_a_window_over_the_whole_image_becomes_a_mean(size, strides, padding, mean):
    """One as large, moved by ones over a padded image, gives an image and no mean."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((6, 6, 2), name="image")
    pooled = layers.AveragePooling2D(size, strides, padding, name="pool")(inputs)
    model = tf.keras.Model(inputs, layers.Dense(3, activation=layers.LeakyReLU(), name="out")(pooled))
    folded = split(fold(model))
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(folded(x), model(x), atol=1e-6)
    assert (type(folded.get_layer("pool")).__name__ == "GlobalAveragePooling2D") is mean
