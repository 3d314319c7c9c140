"""Every layer kind that integer kernels compute, with the weights that are hardest on them, a few files in all.

Layers stand beside one another in one model, each with an output that bears its name: some sixty files would take
minutes to convert, and as many to start.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Build = Callable[[Any, Any, str], Any]

SHAPES: dict[str, tuple[int, ...]] = {
    "image": (9, 9, 6),
    "grouped": (9, 9, 6),
    "odd": (8, 8, 5),
    "sequence": (12, 6),
    "vector": (37,),
}


def _residual(layers: Any, x: Any, name: str) -> Any:
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu", name=f"{name}_a")(x)
    y = layers.Conv2D(x.shape[-1], 3, padding="same", name=f"{name}_b")(y)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=name)([x, y]))


def _concatenated(layers: Any, x: Any, name: str) -> Any:
    a = layers.Conv2D(5, 3, padding="same", activation="relu", name=f"{name}_a")(x)
    b = layers.Conv2D(4, 1, name=f"{name}_b")(x)
    return layers.Conv2D(8, 1, name=f"{name}_c")(layers.Concatenate(name=name)([a, b]))


def _pooled(layers: Any, x: Any, name: str) -> Any:
    x = layers.AveragePooling2D(2, name=name)(layers.Conv2D(16, 3, activation="relu", name=f"{name}_a")(x))
    return layers.Dense(7, name=f"{name}_b")(layers.GlobalAveragePooling2D(name=f"{name}_all")(x))


def _separable(layers: Any, x: Any, name: str) -> Any:
    return layers.SeparableConv2D(16, 3, activation="relu6", name=name)(x)


def _behind(layers: Any, x: Any, name: str) -> Any:
    """Behind a relu, where all bytes from 0 to 255 stand for values: the second layer's are the largest sums."""
    x = layers.Conv2D(16, 1, activation="relu", name=f"{name}_a")(x)
    return layers.Conv2D(16, 3, activation="relu", name=f"{name}_b")(x)


def _deep(layers: Any, x: Any, name: str) -> Any:
    x = layers.Dense(64, activation="relu", name=f"{name}_a")(x)
    x = layers.Dense(48, activation="relu", name=f"{name}_b")(x)
    return layers.Dense(10, name=f"{name}_c")(x)


def _conv(filters: int, size: int, **how: Any) -> Build:
    return lambda layers, x, name: layers.Conv2D(filters, size, **how, name=name)(x)


def _activated(activation: str) -> Build:
    return lambda layers, x, name: layers.Conv2D(16, 3, activation=activation, name=name)(x)


def _between(activation: str) -> Build:
    """An activation whose curve runtimes compute in float, or from a table, and integers behind it again."""

    def build(layers: Any, x: Any, name: str) -> Any:
        x = layers.Conv2D(16, 1, activation=activation, name=f"{name}_a")(x)
        return layers.Conv2D(8, 3, name=f"{name}_b")(x)

    return build


def _depthwise(multiplier: int, **how: Any) -> Build:
    return lambda layers, x, name: layers.DepthwiseConv2D(3, depth_multiplier=multiplier, **how, name=name)(x)


IMAGE: dict[str, Build] = {
    "conv": _conv(16, 3),
    "conv_1x1": _conv(24, 1),
    "conv_few": _conv(3, 3),
    "conv_strided": _conv(16, 3, strides=2, padding="same"),
    "conv_dilated": _conv(16, 3, dilation_rate=2),
    "conv_relu": _activated("relu"),
    "conv_relu6": lambda layers, x, name: layers.ReLU(6.0, name=f"{name}_r")(layers.Conv2D(16, 3, name=name)(x)),
    "conv_sigmoid": _activated("sigmoid"),
    "conv_tanh": _activated("tanh"),
    "sigmoid_between": _between("sigmoid"),
    "tanh_between": _between("tanh"),
    "swish_between": _between("swish"),
    "depthwise": _depthwise(1),
    "depthwise_twice": _depthwise(2),
    "depthwise_strided": _depthwise(1, strides=2, padding="same"),
    "separable": _separable,
    "transposed": lambda layers, x, name: layers.Conv2DTranspose(8, 3, 2, "same", name=name)(x),
    "residual": _residual,
    "concatenated": _concatenated,
    "pooled": _pooled,
    "behind_relu": _behind,
}
# Those whose kernels ask how many channels there are.
ODD = (
    *("conv", "conv_1x1", "conv_few", "conv_strided", "conv_dilated", "behind_relu", "transposed"),
    *("depthwise", "depthwise_twice", "separable"),
)
KINDS: dict[str, dict[str, Build]] = {
    "image": IMAGE,
    "grouped": {"conv_grouped": _conv(16, 3, groups=2), "conv_grouped_1x1": _conv(12, 1, groups=3)},
    "odd": {name: IMAGE[name] for name in ODD},
    "sequence": {
        "dense_sequence": lambda layers, x, name: layers.Dense(16, activation="relu", name=name)(x),
        "conv1d": lambda layers, x, name: layers.Conv1D(16, 3, activation="relu", name=name)(x),
        "conv1d_causal": lambda layers, x, name: layers.Conv1D(9, 3, padding="causal", name=name)(x),
        "conv1d_strided": lambda layers, x, name: layers.Conv1D(16, 5, strides=2, name=name)(x),
        "depthwise1d": lambda layers, x, name: layers.DepthwiseConv1D(3, padding="same", name=name)(x),
    },
    "vector": {
        "dense": lambda layers, x, name: layers.Dense(16, name=name)(x),
        "dense_one": lambda layers, x, name: layers.Dense(1, name=name)(x),
        "dense_relu": lambda layers, x, name: layers.Dense(33, activation="relu", name=name)(x),
        "dense_sigmoid": lambda layers, x, name: layers.Dense(8, activation="sigmoid", name=name)(x),
        "dense_softmax": lambda layers, x, name: layers.Dense(8, activation="softmax", name=name)(x),
        "dense_deep": _deep,
    },
}
DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "heavy tails": lambda draw, shape: draw.standard_t(2, shape),
    "full range": lambda draw, shape: draw.uniform(-1, 1, shape),
    "one sign": lambda draw, shape: draw.uniform(0.5, 1, shape),
}


def built(shape: str, weights: str) -> Any:
    """A model with each kind of layer that takes such a shape, all kernels drawn as hard as the name says."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(SHAPES[shape], name="input")
    outputs = [kind(tf.keras.layers, inputs, name) for name, kind in KINDS[shape].items()]
    model = tf.keras.Model(inputs, outputs, name="kinds")
    draw = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([_drawn(draw, weights, value.shape) for value in layer.get_weights()])
    return model


def _drawn(draw: np.random.Generator, weights: str, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel, or a bias that does not outweigh what one gives."""
    if len(shape) == 1:
        return draw.normal(0, 0.1, shape)
    return DRAWS[weights](draw, shape) / np.prod(shape[:-1])


def examples(shape: str, count: int = 24) -> np.ndarray:
    """Half of them at the two ends of their range, where products are largest; half anywhere between."""
    draw = np.random.default_rng(1)
    ends = draw.choice([-1.0, 1.0], (count // 2, *SHAPES[shape]))
    return np.concatenate([ends, draw.uniform(-1, 1, (count - count // 2, *SHAPES[shape]))]).astype(np.float32)
