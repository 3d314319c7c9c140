"""Layers that LiteRT has no operator for, out of those that it has."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats.lookups import gather
from tasks.formats.tflite.norms import group_normalization
from tasks.keras_graph.rebuild import kind
from tasks.keras_graph.replacing import Replacement, like, replaced

if TYPE_CHECKING:
    import tensorflow as tf

KNOWN_WAYS = ("bilinear", "nearest")  # of resizing, which are operators of LiteRT
# Layers whose channels may stand before the pixels: what they compute is the same with channels behind.
CHANNELS = (
    *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
    *("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "UpSampling2D", "UpSampling3D"),
)


def reachable(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function of layers that LiteRT can compute, as far as they are known here.

    Args:
        model: flat. Its layers are copied.

    """
    return replaced(model, RULES | dict.fromkeys(CHANNELS, _channels_last))


def _channels_last(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:
    """The like between two transposes. TensorFlow's converter has a few layers with channels first, not all."""
    import tensorflow as tf

    rule = RULES.get(kind(layer))
    if layer.data_format != "channels_first":
        return rule(layer, x, name) if rule else None
    rank = len(x.shape)
    inputs = tf.keras.Input(x.shape[1:], dtype=x.dtype)
    turned = tf.keras.layers.Permute((*range(2, rank), 1))(inputs)
    one = like(layer, data_format="channels_last")
    output = one(turned)
    other = rule(one, turned, one.name) if rule else None
    output = output if other is None else other(turned)
    return tf.keras.Model(inputs, tf.keras.layers.Permute((rank - 1, *range(1, rank - 1)))(output), name=name)


def _resized(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:
    """Two matrix products, for every new pixel is a sum of old ones weighted by row and by column.

    The matrices are what the layer itself makes of images that are one in a row, or a column, and zero elsewhere.
    """
    import tensorflow as tf

    if layer.interpolation in KNOWN_WAYS or None in x.shape[1:]:
        return None
    _, height, width, _ = x.shape
    rows = np.eye(height, dtype=np.float32)[:, :, None, None] * np.ones((1, 1, width, 1), np.float32)
    columns = np.eye(width, dtype=np.float32)[:, None, :, None] * np.ones((1, height, 1, 1), np.float32)
    by_row, by_column = np.asarray(layer(rows))[:, :, 0, 0], np.asarray(layer(columns))[:, 0, :, 0]

    def resized(images: Any) -> Any:
        by_rows = tf.transpose(tf.matmul(tf.transpose(images, (0, 3, 2, 1)), by_row), (0, 1, 3, 2))
        return tf.transpose(tf.matmul(by_rows, by_column), (0, 2, 3, 1))

    return tf.keras.layers.Lambda(resized, name=name)


def _convolved_in_space(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:
    """Groups one by one, and zeros between the places of a kernel that is dilated."""
    import tensorflow as tf

    if layer.groups == 1 and layer.dilation_rate == (1, 1, 1):
        return None
    kernel, *bias = layer.get_weights()
    dilation = np.array(layer.dilation_rate)
    wide = np.zeros((*((np.array(kernel.shape[:3]) - 1) * dilation + 1), *kernel.shape[3:]), np.float32)
    wide[tuple(slice(None, None, step) for step in layer.dilation_rate)] = kernel
    inputs = tf.keras.Input(x.shape[1:], dtype=x.dtype)
    parts, count = [], layer.filters // layer.groups
    for group in range(layer.groups):
        size = wide.shape[3]
        part = tf.keras.layers.Conv3D(
            count, wide.shape[:3], layer.strides, layer.padding, use_bias=bool(bias), name=f"{name}_{group}"
        )
        parts.append(part(inputs[..., group * size : (group + 1) * size]))
        here = slice(group * count, (group + 1) * count)
        part.set_weights([wide[..., here], *(each[here] for each in bias)])
    output = tf.concat(parts, -1) if len(parts) > 1 else parts[0]
    return tf.keras.Model(inputs, tf.keras.layers.Activation(layer.activation)(output), name=name)


def _pooled_in_space(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:
    """Over height and width first, and then over depth: what padding leaves out of a mean, each of them leaves out."""
    import tensorflow as tf

    if None in x.shape[1:]:
        return None
    pool = getattr(tf.keras.layers, kind(layer).replace("3D", "2D"))
    (deep, *flat_size), (far, *steps) = layer.pool_size, layer.strides
    across = pool(tuple(flat_size), tuple(steps), layer.padding)
    along = pool((deep, 1), (far, 1), layer.padding)
    _, depth, height, width, channels = x.shape
    _, new_depth, new_height, new_width, _ = layer.compute_output_shape(x.shape)

    def pooled(values: Any) -> Any:
        flat = across(tf.reshape(values, (-1, height, width, channels)))
        flat = along(tf.reshape(flat, (-1, depth, new_height * new_width, channels)))
        return tf.reshape(flat, (-1, new_depth, new_height, new_width, channels))

    return tf.keras.layers.Lambda(pooled, name=name)


def _counted(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:  # noqa: ARG001  any shape
    import tensorflow as tf

    if layer.sparse:
        return None
    return tf.keras.layers.Lambda(
        lambda x: _categories(x, layer.num_tokens, layer.output_mode, layer.compute_dtype), name=name
    )


def _looked_up(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:  # noqa: ARG001  any shape
    import tensorflow as tf

    mode = layer.output_mode
    if layer.sparse:
        return None
    depth = layer.max_tokens if layer.pad_to_max_tokens else layer.vocabulary_size()
    weights = np.asarray(layer.idf_weights_const) if mode == "tf_idf" else 1
    lookup = like(layer)
    gather(lookup)

    def looked_up(tokens: Any) -> Any:
        indices = lookup._lookup_dense(tf.cast(tokens, lookup._key_dtype))
        if mode == "int":
            return indices
        return _categories(indices, depth, mode, layer.compute_dtype) * weights

    return tf.keras.layers.Lambda(looked_up, name=name)


def _categories(numbers: Any, depth: int, mode: str, dtype: str) -> Any:
    """One-hot vectors, their largest or their sum, `(…, depth)`; TensorFlow counts in bins."""
    import tensorflow as tf

    hot = tf.one_hot(tf.cast(numbers, tf.int32), depth, dtype=dtype)
    if mode == "one_hot":
        return tf.squeeze(hot, -2) if numbers.shape[-1] == 1 else hot
    return tf.reduce_max(hot, -2) if mode == "multi_hot" else tf.reduce_sum(hot, -2)


def _centred(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:  # noqa: ARG001 - as every rule
    """A sum alone as a difference: the converter moves sums into the matrix product behind them, and differences not.

    Moved there, what was to take years to about 0 is taken off behind products of years, of which float32 keeps three
    digits less.
    """
    import tensorflow as tf

    if np.any(np.asarray(layer.scale) != 1):
        return None
    away = -np.asarray(layer.offset, np.float32)
    return tf.keras.layers.Lambda(lambda values: tf.subtract(values, away), name=name)


def _scaled(layer: "tf.keras.layers.Layer", x: Any, name: str) -> Any:  # noqa: ARG001 - as every rule
    """A factor for each place of the last axis: the converter makes products of matrices of it that do not run."""
    import tensorflow as tf

    taken, given = layer.equation.replace(" ", "").replace("...", "").split("->")
    values, factors = taken.split(",")
    if len(factors) != 1 or values != given or not values.endswith(factors):
        return None
    kernel, *bias = layer.get_weights()
    shift = bias[0] if bias else np.float32(0)
    activation = layer.activation
    return tf.keras.layers.Lambda(lambda values: activation(values * kernel + shift), name=name)


RULES: dict[str, Replacement] = {
    "AveragePooling3D": _pooled_in_space,
    "CategoryEncoding": _counted,
    "Conv3D": _convolved_in_space,
    "EinsumDense": _scaled,
    "GroupNormalization": group_normalization,
    "IntegerLookup": _looked_up,
    "MaxPooling3D": _pooled_in_space,
    "Rescaling": _centred,
    "Resizing": _resized,
    "UpSampling2D": _resized,
}
