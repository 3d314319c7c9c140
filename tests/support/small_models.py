"""The smallest models that have what the tests are about."""

from typing import Any

import numpy as np


def settle_norms(model: Any, seed: int = 0) -> Any:
    """Batch normalisations as after a training: nothing is one or zero, and some scales are negative."""
    draw = np.random.default_rng(seed)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            count = layer.gamma.shape[0]
            sign = np.where(draw.random(count) < 0.2, -1, 1)
            layer.set_weights(
                [draw.uniform(0.5, 1.5, count) * sign, *draw.normal(0, 0.3, (2, count)), draw.uniform(0.2, 2, count)]
            )
    return model


def convolutional(shape: tuple[int, ...] = (12, 12, 3), classes: int = 5) -> Any:
    """All that the zoo has: rescaling, convolutions, depthwise, batch norm, Relu, Add, pooling, Dense, softmax."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    inputs = tf.keras.Input(shape, name="input")
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.Activation("relu", name="depthwise_relu")(layers.BatchNormalization(name="depthwise_norm")(y))
    y = layers.Conv2D(8, 1, name="pointwise")(y)
    x = layers.ReLU(name="add_relu")(layers.Add(name="add")([x, y]))
    x = layers.ZeroPadding2D(1, name="padding")(x)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="strided")(x)
    x = layers.MaxPooling2D(2, name="largest")(x)
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(x.shape[1:3], name="mean")(x))
    x = layers.ReLU(name="dense_relu")(layers.BatchNormalization(name="dense_norm")(layers.Dense(12, name="dense")(x)))
    x = layers.Dense(classes, name="logits")(layers.Dropout(0.5, name="dropout")(x))
    outputs = layers.Softmax(name="probabilities")(x)
    return settle_norms(tf.keras.Model(inputs, outputs, name="convolutional"))


def images(count: int, shape: tuple[int, ...] = (12, 12, 3), seed: int = 0) -> np.ndarray:
    """Raw values in 0 to 255, of eight kinds."""
    draw = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).uniform(0, 255, (8, *shape))
    lighter = draw.uniform(0.3, 1, (count, *(1 for _ in shape)))
    noisy = kinds[draw.integers(0, 8, count)] * lighter + draw.normal(0, 25, (count, *shape))
    return np.clip(noisy, 0, 255).round().astype(np.float32)
