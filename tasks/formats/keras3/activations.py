"""Activations of Keras 3 that Keras 2 does not have, or has another by that name, made of its layers and operations.

After `keras/src/backend/tensorflow/nn.py` of 3.15. Each takes a name, that of its last layer, and a tensor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.formats.keras3.tensors import operated

Activation = Callable[..., Any]


def hard_sigmoid(name: str, tensor: Any) -> Any:
    """relu6(x + 3) / 6; Keras 2's is clip(x / 5 + 1 / 2)."""
    import tensorflow as tf

    return tf.keras.layers.ReLU(1.0, name=name)(tf.keras.layers.Rescaling(1 / 6, 0.5, name=f"{name}_line")(tensor))


def hard_silu(name: str, tensor: Any) -> Any:
    """A tensor times its hard sigmoid."""
    import tensorflow as tf

    return tf.keras.layers.Multiply(name=name)([tensor, hard_sigmoid(f"{name}_gate", tensor)])


def leaky_relu(name: str, tensor: Any, negative_slope: float = 0.2) -> Any:
    """Negative numbers times a slope."""
    import tensorflow as tf

    return tf.keras.layers.LeakyReLU(negative_slope, name=name)(tensor)


def celu(name: str, tensor: Any, alpha: float = 1.0) -> Any:
    """max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)."""
    import tensorflow as tf

    if alpha == 1:
        return tf.keras.layers.ELU(name=name)(tensor)
    below = operated("math.minimum", f"{name}_below", tensor, 0.0)
    curve = operated("math.expm1", f"{name}_curve", operated("math.multiply", f"{name}_inner", below, 1 / alpha))
    bent = operated("math.multiply", f"{name}_bent", curve, alpha)
    return operated("math.add", name, operated("nn.relu", f"{name}_above", tensor), bent)


def glu(name: str, tensor: Any, axis: int = -1) -> Any:
    """One half of an axis times the sigmoid of the other."""
    import tensorflow as tf

    axis %= len(tensor.shape)
    half = tensor.shape[axis] // 2

    def part(what: str, place: slice) -> Any:
        key = (*[slice(None)] * axis, place)
        return operated("__operators__.getitem", f"{name}_{what}", tensor, key)

    gate = tf.keras.layers.Activation("sigmoid", name=f"{name}_gate")(part("other", slice(half, None)))
    return tf.keras.layers.Multiply(name=name)([part("one", slice(None, half)), gate])


def hard_tanh(name: str, tensor: Any) -> Any:
    """Numbers between -1 and 1, and those where others end."""
    return operated("clip_by_value", name, tensor, -1.0, 1.0)


def hard_shrink(name: str, tensor: Any, threshold: float = 0.5) -> Any:
    """Zero for all numbers that are no further from it than the threshold."""
    far = operated("math.greater", f"{name}_far", operated("math.abs", f"{name}_size", tensor), threshold)
    return operated("where", name, far, tensor, 0.0)


def soft_shrink(name: str, tensor: Any, threshold: float = 0.5) -> Any:
    """Numbers nearer to zero by the threshold."""
    near = operated("clip_by_value", f"{name}_near", tensor, -threshold, threshold)
    return operated("math.subtract", name, tensor, near)


def tanh_shrink(name: str, tensor: Any) -> Any:
    """X - tanh(x)."""
    return operated("math.subtract", name, tensor, operated("math.tanh", f"{name}_tanh", tensor))


def log_sigmoid(name: str, tensor: Any) -> Any:
    """log(1 / (1 + exp(-x))) = -softplus(-x)."""
    turned = operated("math.negative", f"{name}_turned", tensor)
    return operated("math.negative", name, operated("math.softplus", f"{name}_softplus", turned))


def squareplus(name: str, tensor: Any, b: float = 4) -> Any:
    """(x + sqrt(x² + b)) / 2."""
    import tensorflow as tf

    square = operated("math.add", f"{name}_sum", operated("math.square", f"{name}_square", tensor), float(b))
    whole = operated("math.add", f"{name}_whole", tensor, operated("math.sqrt", f"{name}_root", square))
    return tf.keras.layers.Rescaling(0.5, name=name)(whole)


def sparse_plus(name: str, tensor: Any) -> Any:
    """0 up to -1, x from 1 on, and (x + 1)² / 4 between."""
    near = operated("clip_by_value", f"{name}_near", tensor, -1.0, 1.0)
    square = operated("math.square", f"{name}_square", operated("math.add", f"{name}_sum", near, 1.0))
    quarter = operated("math.multiply", f"{name}_quarter", square, 0.25)
    above = operated("nn.relu", f"{name}_above", operated("math.subtract", f"{name}_rest", tensor, 1.0))
    return operated("math.add", name, quarter, above)


def sparse_sigmoid(name: str, tensor: Any) -> Any:
    """(x + 1) / 2, no less than 0 and no more than 1."""
    import tensorflow as tf

    return tf.keras.layers.ReLU(1.0, name=name)(tf.keras.layers.Rescaling(0.5, 0.5, name=f"{name}_line")(tensor))


def sparsemax(name: str, tensor: Any, axis: int = -1) -> Any:
    """max(x - t, 0), where t is what Keras 3 takes it to be: not what makes the sum one (Martins and Astudillo, 2016).

    Of the k largest numbers, those above the mean of what they and the larger ones have above one, Keras 3 adds up all
    sums of the largest, where the method has the sum of all k.
    """
    rank, axis = len(tensor.shape), axis % len(tensor.shape)
    counts = np.arange(1, tensor.shape[axis] + 1, dtype=np.float32)
    counts = counts.reshape([-1 if place == axis else 1 for place in range(rank)])
    ordered = operated("sort", f"{name}_sorted", tensor, axis=axis, direction="DESCENDING")
    sums = operated("math.cumsum", f"{name}_sums", ordered, axis=axis)
    means = operated("math.divide", f"{name}_means", operated("math.subtract", f"{name}_less", sums, 1.0), counts)
    above = operated("math.greater", f"{name}_above", ordered, means)
    kept = operated("where", f"{name}_kept", above, sums, 0.0)
    whole = operated("math.reduce_sum", f"{name}_whole", kept, axis=axis, keepdims=True)
    ones = operated("cast", f"{name}_ones", above, "float32")
    count = operated("math.reduce_sum", f"{name}_count", ones, axis=axis, keepdims=True)
    most = operated("math.divide", f"{name}_most", operated("math.subtract", f"{name}_more", whole, 1.0), count)
    return operated("nn.relu", name, operated("math.subtract", f"{name}_rest", tensor, most))


def log_softmax(name: str, tensor: Any, axis: int = -1) -> Any:
    """The logarithm of a softmax, which Keras 2 saves by a name that it cannot read."""
    return operated("nn.log_softmax", name, tensor, axis=axis)


ACTIVATED: dict[str, Activation] = {
    "celu": celu,
    "hard_shrink": hard_shrink,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "hard_tanh": hard_tanh,
    "leaky_relu": leaky_relu,
    "log_sigmoid": log_sigmoid,
    "log_softmax": log_softmax,
    "soft_shrink": soft_shrink,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": sparse_sigmoid,
    "sparsemax": sparsemax,
    "squareplus": squareplus,
    "tanh_shrink": tanh_shrink,
}
