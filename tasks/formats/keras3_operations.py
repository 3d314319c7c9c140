"""Operations of Keras 3, such as `x * 0.5` or `keras.ops.relu(x)`, as layers of Keras 2.

Keras 3 keeps them in a model beside its layers. Each function here takes an operation's name and settings and what it
was called with, and gives what layers of Keras 2 make of that; None says that they cannot.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Make = Callable[[str, dict[str, Any], list[Any]], Any]


def is_tensor(value: Any) -> bool:
    """Whether a value is the tensor of a graph, not a constant."""
    return hasattr(value, "shape") and not isinstance(value, np.ndarray)


def _merged(layer: str) -> Make:
    """Of two tensors; beside a constant, see `_linear`."""

    def make(name: str, settings: dict[str, Any], given: list[Any]) -> Any:  # noqa: ARG001
        import tensorflow as tf

        if len(given) == 2 and all(map(is_tensor, given)):
            return getattr(tf.keras.layers, layer)(name=name)(given)
        return None

    return make


def _linear(layer: str, line: Callable[[Any], tuple[Any, Any]]) -> Make:
    """Of two tensors, or of a tensor and a constant `c`: `scale, offset = line(c)` and then `x * scale + offset`."""

    def make(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
        import tensorflow as tf

        if len(given) != 2 or not any(map(is_tensor, given)):
            return None
        if all(map(is_tensor, given)):
            return _merged(layer)(name, settings, given) if layer else None
        (tensor,) = filter(is_tensor, given)
        (constant,) = (np.asarray(value, float) for value in given if not is_tensor(value))
        if constant.ndim > 1 and math.prod(constant.shape[:-1]) != 1:
            return None
        constant = constant.reshape(-1) if constant.ndim else constant
        scale, offset = line(constant)
        if is_tensor(given[1]) and layer == "Subtract":  # c - x
            scale, offset = -1.0, constant
        elif is_tensor(given[1]) and not layer:  # c / x
            return None
        return tf.keras.layers.Rescaling(np.asarray(scale).tolist(), offset=np.asarray(offset).tolist(), name=name)(
            tensor
        )

    return make


def _layer(layer: str, *keys: str, **fixed: Any) -> Make:
    """Of one tensor: a layer with these settings of the operation's."""

    def make(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
        import tensorflow as tf

        if len(given) != 1:
            return None
        passed = {key: settings[key] for key in keys if key in settings}
        return getattr(tf.keras.layers, layer)(name=name, **passed, **fixed)(given[0])

    return make


def _activation(function: str) -> Make:
    return _layer("Activation", activation=function)


def _leaky(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    import tensorflow as tf

    return tf.keras.layers.LeakyReLU(settings.get("negative_slope", 0.2), name=name)(given[0])


def _gelu(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    return None if settings.get("approximate", True) else _activation("gelu")(name, settings, given)


def _hard(name: str, settings: dict[str, Any], given: list[Any]) -> Any:  # noqa: ARG001
    return hard_sigmoid(name, given[0])


def _hard_silu(name: str, settings: dict[str, Any], given: list[Any]) -> Any:  # noqa: ARG001
    return hard_silu(name, given[0])


def hard_sigmoid(name: str, tensor: Any) -> Any:
    """relu6(x + 3) / 6, as Keras 3 means it; Keras 2's is clip(x / 5 + 1 / 2)."""
    import tensorflow as tf

    return tf.keras.layers.ReLU(1.0, name=name)(tf.keras.layers.Rescaling(1 / 6, 0.5, name=f"{name}_line")(tensor))


def hard_silu(name: str, tensor: Any) -> Any:
    """A tensor times its hard sigmoid."""
    import tensorflow as tf

    return tf.keras.layers.Multiply(name=name)([tensor, hard_sigmoid(f"{name}_gate", tensor)])


def _concatenate(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    import tensorflow as tf

    tensors = given[0]
    if not all(map(is_tensor, tensors)) or settings.get("axis", -1) == 0:
        return None
    return tf.keras.layers.Concatenate(settings.get("axis", -1), name=name)(tensors)


def _reshape(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    """A new shape that leaves the batch axis as it is."""
    import tensorflow as tf

    tensor, shape = given[0], settings.get("newshape", given[1] if len(given) > 1 else None)
    if not shape or shape[0] not in (None, -1) or None in tensor.shape[1:] or -1 in shape[1:]:
        return None
    if math.prod(shape[1:]) != math.prod(tensor.shape[1:]):
        return None
    return tf.keras.layers.Reshape(shape[1:], name=name)(tensor)


def _expanded(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    """One axis of size one more."""
    axis, rank = settings.get("axis"), len(given[0].shape) + 1
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    shape = list(given[0].shape)
    return _reshape(name, {"newshape": [-1, *shape[1 : axis % rank], 1, *shape[axis % rank :]]}, given)


def _squeezed(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    """One axis of size one fewer."""
    axis, rank = settings.get("axis"), len(given[0].shape)
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    shape = list(given[0].shape)
    return _reshape(name, {"newshape": [-1, *shape[1 : axis % rank], *shape[axis % rank + 1 :]]}, given)


def _transpose(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    import tensorflow as tf

    axes = settings.get("axes")
    return tf.keras.layers.Permute(axes[1:], name=name)(given[0]) if axes and axes[0] == 0 else None


def _pooled(pooling: str) -> Make:
    """The mean or largest over all places of a sequence or an image."""

    def make(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
        import tensorflow as tf

        tensor, axis = given[0], settings.get("axis")
        rank = len(tensor.shape)
        axes = sorted(each % rank for each in ([axis] if isinstance(axis, int) else axis or []))
        if axes != list(range(1, rank - 1)) or rank not in (3, 4):
            return None
        layer = getattr(tf.keras.layers, f"Global{pooling}Pooling{rank - 2}D")
        return layer(keepdims=bool(settings.get("keepdims")), name=name)(tensor)

    return make


def _positive(name: str, settings: dict[str, Any], given: list[Any]) -> Any:
    """The larger of two tensors; beside a zero, a Relu."""
    import tensorflow as tf

    if len(given) == 2 and is_tensor(given[0]) and not is_tensor(given[1]) and given[1] == 0:
        return tf.keras.layers.ReLU(name=name)(given[0])
    return _merged("Maximum")(name, settings, given)


OPERATIONS: dict[str, Make] = {
    "Add": _linear("Add", lambda c: (1.0, c)),
    "Concatenate": _concatenate,
    "Divide": _linear("", lambda c: (1 / c, 0.0)),
    "Elu": _layer("ELU", "alpha"),
    "Exp": _activation("exponential"),
    "ExpandDims": _expanded,
    "Gelu": _gelu,
    "HardSigmoid": _hard,
    "HardSilu": _hard_silu,
    "LeakyRelu": _leaky,
    "LogSoftmax": _activation("log_softmax"),
    "Max": _pooled("Max"),
    "Maximum": _positive,
    "Mean": _pooled("Average"),
    "Minimum": _merged("Minimum"),
    "Multiply": _linear("Multiply", lambda c: (c, 0.0)),
    "Negative": _layer("Rescaling", scale=-1.0),
    "Relu": _layer("ReLU"),
    "Relu6": _layer("ReLU", max_value=6.0),
    "Reshape": _reshape,
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Silu": _activation("silu"),
    "Softmax": _layer("Softmax", "axis"),
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Squeeze": _squeezed,
    "Subtract": _linear("Subtract", lambda c: (1.0, -c)),
    "Tanh": _activation("tanh"),
    "Transpose": _transpose,
    "TrueDivide": _linear("", lambda c: (1 / c, 0.0)),
}
