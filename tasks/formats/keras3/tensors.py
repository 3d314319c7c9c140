"""Operations of TensorFlow as layers of Keras 2: what it makes of `tf.abs(x)` in a graph, under names of ours."""

from typing import Any

import numpy as np

# Operations of Keras 3 that a mask may be computed by, and what TensorFlow calls them.
COMPUTED_BY = {
    "All": "math.reduce_all",
    "Any": "math.reduce_any",
    "Concatenate": "concat",
    "Equal": "math.equal",
    "ExpandDims": "expand_dims",
    "Greater": "math.greater",
    "GreaterEqual": "math.greater_equal",
    "Less": "math.less",
    "LessEqual": "math.less_equal",
    "LogicalAnd": "math.logical_and",
    "LogicalNot": "math.logical_not",
    "LogicalOr": "math.logical_or",
    "NotEqual": "math.not_equal",
}


def wrapped(symbol: str, name: str) -> Any:
    """The layer that calls an operation.

    Args:
        symbol: what TensorFlow calls it, behind `tf.`, such as `math.not_equal`.
        name: the layer's. Keras would number it by what else was built before.

    """
    import tensorflow as tf

    kind = "SlicingOpLambda" if symbol == "__operators__.getitem" else "TFOpLambda"
    return tf.keras.layers.deserialize({"class_name": kind, "config": {"name": name, "function": symbol}})


def operated(symbol: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """The output of an operation for tensors and constants, by a layer of that name."""
    return wrapped(symbol, name)(*map(_as_kept, args), **kwargs)


def _as_kept(value: Any) -> Any:
    """A slice, or several, as Keras 2 keeps them in a config: it writes no others into files."""
    if isinstance(value, slice):
        return {"start": value.start, "stop": value.stop, "step": value.step}
    return tuple(map(_as_kept, value)) if isinstance(value, tuple) else value


def is_tensor(value: Any) -> bool:
    """Whether a value is the tensor of a graph, not a constant."""
    return hasattr(value, "shape") and not isinstance(value, np.ndarray)


def flattened(value: Any) -> list[Any]:
    """What is in lists and dicts of lists, in one; tuples, such as a mask's, are whole."""
    if isinstance(value, dict):
        return [each for key in sorted(value) for each in flattened(value[key])]
    return [each for item in value for each in flattened(item)] if isinstance(value, list) else [value]
