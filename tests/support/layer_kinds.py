"""Models with one kind of layer each, and what share of each is to run in integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from small_models import settle_norms

Build = Callable[[Any, Any], Any]


IMAGE = (8, 8, 3)


SEQUENCE = (10, 4)


VECTOR = (6,)


def _shared(layers: Any, x: Any) -> Any:
    twice = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    return twice(twice(x))


def _nested(layers: Any, x: Any) -> Any:
    import tensorflow as tf

    inner_input = tf.keras.Input(x.shape[1:], name="inner_input")
    inner = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(inner_input))
    return tf.keras.Model(inner_input, inner, name="inner")(x)


def _squeeze_and_excite(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(4, 3, name="conv")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(gate)
    return layers.Multiply(name="gated")([x, gate])


def _branches(layers: Any, x: Any) -> Any:
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(x)
    b = layers.Conv2D(2, 1, name="b")(x)
    return layers.Conv2D(3, 1, name="c")(layers.Concatenate(name="both")([a, b]))


def _preactivated(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(4, 3, name="first")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(layers.MaxPooling2D(2, name="pool")(x)))
    return layers.Conv2D(4, 1, name="second")(x)


# name: shape of an example, layers, and the least share of multiply-accumulates in integers (ONNX, TFLite)
KINDS: dict[str, tuple[tuple[int, ...], Build, float, float]] = {
    "dense": (VECTOR, lambda la, x: la.Dense(5, activation="relu", name="d")(x), 1, 1),
    "dense on a sequence": (SEQUENCE, lambda la, x: la.Dense(5, activation="relu", name="d")(x), 1, 1),
    "dense without bias": (VECTOR, lambda la, x: la.Dense(5, use_bias=False, name="d")(x), 1, 1),
    "conv1d": (SEQUENCE, lambda la, x: la.Conv1D(6, 3, activation="relu", name="c")(x), 1, 1),
    "conv1d causal": (SEQUENCE, lambda la, x: la.Conv1D(6, 3, padding="causal", name="c")(x), 1, 1),
    "conv2d dilated": (IMAGE, lambda la, x: la.Conv2D(4, 3, dilation_rate=2, name="c")(x), 1, 1),
    "conv2d same, strided": (IMAGE, lambda la, x: la.Conv2D(4, 3, 2, padding="same", name="c")(x), 1, 1),
    "depthwise": (IMAGE, lambda la, x: la.DepthwiseConv2D(3, name="c")(x), 1, 1),
    "depthwise times two": (IMAGE, lambda la, x: la.DepthwiseConv2D(3, depth_multiplier=2, name="c")(x), 1, 1),
    "separable": (IMAGE, lambda la, x: la.SeparableConv2D(5, 3, activation="relu", name="c")(x), 1, 1),
    "depthwise on a sequence": (SEQUENCE, lambda la, x: la.DepthwiseConv1D(3, 2, padding="same", name="c")(x), 1, 1),
    "separable, causal": (SEQUENCE, lambda la, x: la.SeparableConv1D(5, 3, padding="causal", name="c")(x), 1, 1),
    "resizing": (IMAGE, lambda la, x: la.Resizing(3, 9, name="r")(la.Conv2D(4, 3, name="c")(x)), 1, 1),
    "transposed": (IMAGE, lambda la, x: la.Conv2DTranspose(4, 3, strides=2, padding="same", name="c")(x), 0, 1),
    "relu6": (IMAGE, lambda la, x: la.ReLU(6.0, name="r")(la.Conv2D(4, 3, name="c")(x)), 1, 1),
    "leaky relu": (IMAGE, lambda la, x: la.LeakyReLU(0.1, name="r")(la.Conv2D(4, 3, name="c")(x)), 1, 1),
    "sigmoid": (IMAGE, lambda la, x: la.Conv2D(4, 3, activation="sigmoid", name="c")(x), 1, 1),
    "tanh": (IMAGE, lambda la, x: la.Conv2D(4, 1, name="e")(la.Conv2D(4, 3, activation="tanh", name="c")(x)), 1, 1),
    "swish": (IMAGE, lambda la, x: la.Conv2D(4, 1, name="e")(la.Conv2D(4, 3, activation="swish", name="c")(x)), 1, 1),
    "shared layer": (IMAGE, _shared, 1, 1),
    "nested model": (IMAGE, _nested, 1, 1),
    "multiply": (IMAGE, _squeeze_and_excite, 1, 1),
    "concatenate": (IMAGE, _branches, 1, 1),
    "norm before convolution": (IMAGE, _preactivated, 1, 1),
    "upsampling": (IMAGE, lambda la, x: la.UpSampling2D(2, name="u")(la.Conv2D(4, 3, name="c")(x)), 1, 1),
    "average pooling": (IMAGE, lambda la, x: la.AveragePooling2D(2, name="p")(la.Conv2D(4, 3, name="c")(x)), 1, 1),
    "padding": (IMAGE, lambda la, x: la.Conv2D(4, 3, name="c")(la.ZeroPadding2D(2, name="p")(x)), 1, 1),
    "permute": (IMAGE, lambda la, x: la.Dense(3, name="d")(la.Permute((3, 1, 2), name="p")(x)), 1, 1),
    "layer norm": (VECTOR, lambda la, x: la.Dense(3, name="d")(la.LayerNormalization(name="n")(x)), 1, 1),
    "lstm": (SEQUENCE, lambda la, x: la.Dense(3, name="d")(la.LSTM(5, name="r")(x)), 0, 0),
    "gru": (SEQUENCE, lambda la, x: la.Dense(3, name="d")(la.GRU(5, name="r")(x)), 0, 0),
    "bidirectional": (SEQUENCE, lambda la, x: la.Dense(3, name="d")(la.Bidirectional(la.LSTM(4), name="r")(x)), 0, 0),
}


def build(name: str) -> tuple[Any, np.ndarray]:
    import tensorflow as tf

    shape, layers, _, _ = KINDS[name]
    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(shape, name="input")
    model = settle_norms(tf.keras.Model(inputs, layers(tf.keras.layers, inputs), name="kind"))
    return model, np.random.default_rng(0).normal(0, 1, (64, *shape)).astype(np.float32)
