"""Operations of Keras 3, such as `x * 0.5` or `keras.ops.relu(x)`, as layers of Keras 2.

Keras 3 keeps them in a model beside its layers. Each function here takes an operation's name and settings and what it
was called with, and returns what layers of Keras 2 make of that; None says that they cannot.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.formats.keras3.activations import ACTIVATED, glu
from tasks.formats.keras3.tensors import is_tensor, operated

Make = Callable[[str, dict[str, Any], list[Any]], Any]


def _merged(layer: str) -> Make:
    """Of two tensors; beside a constant, see `_linear`."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:  # noqa: ARG001
        import tensorflow as tf

        if len(args) == 2 and all(map(is_tensor, args)):
            return getattr(tf.keras.layers, layer)(name=name)(args)
        return None

    return make


def _linear(layer: str, line: Callable[[Any], tuple[Any, Any]]) -> Make:
    """Of two tensors, or of a tensor and a constant `c`: `scale, offset = line(c)` and then `x * scale + offset`."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        import tensorflow as tf

        if len(args) != 2 or not any(map(is_tensor, args)):
            return None
        if all(map(is_tensor, args)):
            return _merged(layer)(name, settings, args) if layer else operated("math.divide", name, *args)
        (tensor,) = filter(is_tensor, args)
        (constant,) = (np.asarray(value, float) for value in args if not is_tensor(value))
        if (constant.ndim > 1 and math.prod(constant.shape[:-1]) != 1) or (is_tensor(args[1]) and not layer):
            return _beside_array(name, f"math.{layer.lower() or 'divide'}", args)
        constant = constant.reshape(-1) if constant.ndim else constant
        scale, offset = line(constant)
        if is_tensor(args[1]) and layer == "Subtract":  # c - x
            scale, offset = -1.0, constant
        return tf.keras.layers.Rescaling(np.asarray(scale).tolist(), offset=np.asarray(offset).tolist(), name=name)(
            tensor
        )

    return make


def _beside_array(name: str, symbol: str, args: list[Any]) -> Any:
    """Of a tensor and numbers for each place of it, the same for each example."""
    (tensor,), (array,) = filter(is_tensor, args), (np.asarray(value) for value in args if not is_tensor(value))
    if array.ndim > len(tensor.shape) or (array.ndim == len(tensor.shape) and array.shape[0] != 1):
        return None
    array = array.astype(tensor.dtype.as_numpy_dtype)
    return operated(symbol, name, *(value if is_tensor(value) else array for value in args))


def _operated(symbol: str, *keys: str) -> Make:
    """Of one tensor: an operation of TensorFlow with these settings of the operation's."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        return operated(symbol, name, args[0], *(settings[key] for key in keys)) if len(args) == 1 else None

    return make


def _activated(activation: str, *keys: str) -> Make:
    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        passed = {key: settings[key] for key in keys if key in settings}
        return ACTIVATED[activation](name, args[0], **passed) if len(args) == 1 else None

    return make


def _layer(layer: str, *keys: str, **fixed: Any) -> Make:
    """Of one tensor: a layer with these settings of the operation's."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        import tensorflow as tf

        if len(args) != 1:
            return None
        passed = {key: settings[key] for key in keys if key in settings}
        return getattr(tf.keras.layers, layer)(name=name, **passed, **fixed)(args[0])

    return make


def _activation(function: str) -> Make:
    return _layer("Activation", activation=function)


def _gelu(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    return None if settings.get("approximate", True) else _activation("gelu")(name, settings, args)


def _glu(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    return glu(name, args[0], settings.get("axis", -1))


def _concatenate(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    import tensorflow as tf

    tensors = args[0]
    if not all(map(is_tensor, tensors)) or settings.get("axis", -1) == 0:
        return None
    return tf.keras.layers.Concatenate(settings.get("axis", -1), name=name)(tensors)


def _reshape(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """A new shape that leaves the batch axis as it is."""
    import tensorflow as tf

    tensor, shape = args[0], settings.get("newshape", args[1] if len(args) > 1 else None)
    if not shape or shape[0] not in (None, -1) or None in tensor.shape[1:] or -1 in shape[1:]:
        return None
    if math.prod(shape[1:]) != math.prod(tensor.shape[1:]):
        return None
    return tf.keras.layers.Reshape(shape[1:], name=name)(tensor)


def _expanded(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """One axis of size one more."""
    axis, rank = settings.get("axis"), len(args[0].shape) + 1
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    shape = list(args[0].shape)
    return _reshape(name, {"newshape": [-1, *shape[1 : axis % rank], 1, *shape[axis % rank :]]}, args)


def _squeezed(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """One axis of size one fewer."""
    axis, rank = settings.get("axis"), len(args[0].shape)
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    shape = list(args[0].shape)
    return _reshape(name, {"newshape": [-1, *shape[1 : axis % rank], *shape[axis % rank + 1 :]]}, args)


def _item(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """Places along axes, as `x[:, 0]`, `x[..., ::-1]` or `x[:, None]` name them; all of the first axis."""
    tensor, key = args[0], settings.get("key", args[1] if len(args) > 1 else None)
    places = key if isinstance(key, list) else [key]
    if not all(place is None or place is ... or isinstance(place, int | slice) for place in places):
        return None
    if any(
        is_tensor(end) for place in places if isinstance(place, slice) for end in (place.start, place.step, place.stop)
    ):
        return None
    whole = places[0] == slice(None) or (places[0] is ... and len(places) <= len(tensor.shape) - places.count(None))
    return operated("__operators__.getitem", name, tensor, tuple(places)) if whole else None


def _stack(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """Tensors side by side along a new axis."""
    tensors, axis = args[0], settings.get("axis", 0)
    if not all(map(is_tensor, tensors)) or axis % (len(tensors[0].shape) + 1) == 0:
        return None
    return operated("stack", name, tensors, axis=axis)


def _clip(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    ends = [settings.get("x_min", args[1] if len(args) > 1 else None), settings.get("x_max", args[-1])]
    return operated("clip_by_value", name, args[0], *map(float, ends)) if not any(map(is_tensor, ends)) else None


def _power(name: str, settings: dict[str, Any], args: list[Any]) -> Any:  # noqa: ARG001
    if len(args) != 2 or not is_tensor(args[0]) or is_tensor(args[1]) or np.ndim(args[1]):
        return None
    return operated("math.pow", name, args[0], float(args[1]))


def _transpose(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    import tensorflow as tf

    axes = settings.get("axes")
    return tf.keras.layers.Permute(axes[1:], name=name)(args[0]) if axes and axes[0] == 0 else None


def _pooled(pooling: str) -> Make:
    """The mean or largest over all places of a sequence or an image."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        import tensorflow as tf

        tensor, axis = args[0], settings.get("axis")
        rank = len(tensor.shape)
        axes = sorted(each % rank for each in ([axis] if isinstance(axis, int) else axis or []))
        if axes != list(range(1, rank - 1)) or rank not in (3, 4):
            return None
        layer = getattr(tf.keras.layers, f"Global{pooling}Pooling{rank - 2}D")
        return layer(keepdims=bool(settings.get("keepdims")), name=name)(tensor)

    return make


def _place_of(symbol: str) -> Make:
    """Which along an axis is the largest or smallest; Keras 3 tells 0 from -0 on the way, which no file can."""

    def make(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
        axis = settings.get("axis")
        if settings.get("keepdims") or not isinstance(axis, int) or axis % len(args[0].shape) == 0:
            return None
        return operated(symbol, name, args[0], axis=axis, output_type="int32")

    return make


def _positive(name: str, settings: dict[str, Any], args: list[Any]) -> Any:
    """The larger of two tensors; beside a zero, a Relu."""
    import tensorflow as tf

    if len(args) == 2 and is_tensor(args[0]) and not is_tensor(args[1]) and args[1] == 0:
        return tf.keras.layers.ReLU(name=name)(args[0])
    return _merged("Maximum")(name, settings, args)


OPERATIONS: dict[str, Make] = {
    "Absolute": _operated("math.abs"),
    "Abs": _operated("math.abs"),
    "Add": _linear("Add", lambda c: (1.0, c)),
    "Argmax": _place_of("argmax"),
    "Argmin": _place_of("argmin"),
    "Celu": _activated("celu", "alpha"),
    "Clip": _clip,
    "Concatenate": _concatenate,
    "Cos": _operated("math.cos"),
    "Divide": _linear("", lambda c: (1 / c, 0.0)),
    "Elu": _layer("ELU", "alpha"),
    "Exp": _activation("exponential"),
    "ExpandDims": _expanded,
    "Expm1": _operated("math.expm1"),
    "Gelu": _gelu,
    "GetItem": _item,
    "Glu": _glu,
    "HardShrink": _activated("hard_shrink", "threshold"),
    "HardSigmoid": _activated("hard_sigmoid"),
    "HardSilu": _activated("hard_silu"),
    "HardTanh": _activated("hard_tanh"),
    "LeakyRelu": _activated("leaky_relu", "negative_slope"),
    "Log": _operated("math.log"),
    "Log1p": _operated("math.log1p"),
    "LogSigmoid": _activated("log_sigmoid"),
    "LogSoftmax": _activated("log_softmax", "axis"),
    "Max": _pooled("Max"),
    "Maximum": _positive,
    "Mean": _pooled("Average"),
    "Minimum": _merged("Minimum"),
    "Multiply": _linear("Multiply", lambda c: (c, 0.0)),
    "Negative": _layer("Rescaling", scale=-1.0),
    "Power": _power,
    "Relu": _layer("ReLU"),
    "Relu6": _layer("ReLU", max_value=6.0),
    "Reshape": _reshape,
    "Rsqrt": _operated("math.rsqrt"),
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Sign": _operated("math.sign"),
    "Silu": _activation("silu"),
    "Sin": _operated("math.sin"),
    "SoftShrink": _activated("soft_shrink", "threshold"),
    "Softmax": _layer("Softmax", "axis"),
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "SparsePlus": _activated("sparse_plus"),
    "SparseSigmoid": _activated("sparse_sigmoid"),
    "Sparsemax": _activated("sparsemax", "axis"),
    "Sqrt": _operated("math.sqrt"),
    "Square": _operated("math.square"),
    "Squareplus": _activated("squareplus", "b"),
    "Squeeze": _squeezed,
    "Stack": _stack,
    "Subtract": _linear("Subtract", lambda c: (1.0, -c)),
    "Tanh": _activation("tanh"),
    "TanhShrink": _activated("tanh_shrink"),
    "Transpose": _transpose,
    "TrueDivide": _linear("", lambda c: (1 / c, 0.0)),
}
