"""Group normalization for LiteRT, in four axes at most: its broadcasting beyond those is for one batch size alone."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def group_normalization(layer: "tf.keras.layers.Layer", x: Any, name: str) -> "tf.keras.layers.Layer | None":
    """The same function over `(batch, places, groups, channels)`, for a layer that gets no mask.

    Keras weighs its moments by a mask, of ones where there is none, in one axis more than the tensor has. The converter
    then writes a BROADCAST_TO of the shape that it saw (Wu and He 2018 say what is computed).
    """
    import tensorflow as tf

    masked = getattr(x, "_keras_mask", None) is not None
    return None if masked else tf.keras.layers.Lambda(_normalized(layer, x.shape), name=name)


def _normalized(layer: "tf.keras.layers.Layer", shape: Any) -> Any:
    """What such a layer does to a tensor of a shape, with its weights as constants."""
    import tensorflow as tf

    rank = len(shape)
    axis = layer.axis % rank
    groups, size = layer.groups, shape[axis] // layer.groups
    gamma = layer.gamma.numpy().reshape(groups, size) if layer.scale else 1.0
    beta = layer.beta.numpy().reshape(groups, size) if layer.center else 0.0
    channels_last = [*(place for place in range(rank) if place != axis), axis]

    def normalized(x: Any) -> Any:
        moved = tf.transpose(x, channels_last)
        grouped = tf.reshape(moved, (tf.shape(x)[0], -1, groups, size))
        away = grouped - tf.reduce_mean(grouped, axis=(1, 3), keepdims=True)
        variance = tf.reduce_mean(tf.square(away), axis=(1, 3), keepdims=True)
        scaled = away * tf.math.rsqrt(variance + layer.epsilon) * gamma + beta
        return tf.transpose(tf.reshape(scaled, tf.shape(moved)), np.argsort(channels_last))

    return normalized
