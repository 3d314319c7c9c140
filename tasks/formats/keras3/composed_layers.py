"""Layers of Keras 3 that Keras 2 does not have, made of several of its own.

Each function takes a layer's config and returns the layer of Keras 2 that holds the weights, if there are any, and what
makes a tensor of a name, that of what comes last, and a tensor; None says that this is not possible.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.formats.keras3.tensors import operated

Made = tuple[Any, Callable[[str, Any], Any]]


def _rms_normalization(settings: dict[str, Any]) -> Made | None:
    """Each number by the root of the mean square of the last axis, times a scale for each place of that."""
    import tensorflow as tf

    if settings["axis"] not in (-1, [-1]):
        return None
    scaled = tf.keras.layers.EinsumDense("...a,a->...a", output_shape=(None,), name=settings["name"])

    def make(name: str, tensor: Any) -> Any:
        square = operated("math.square", f"{name}_square", tensor)
        mean = operated("math.reduce_mean", f"{name}_mean", square, axis=-1, keepdims=True)
        root = operated("math.rsqrt", f"{name}_root", operated("math.add", f"{name}_sum", mean, settings["epsilon"]))
        return scaled(operated("math.multiply", f"{name}_even", tensor, root))

    return scaled, make


def _adaptive(pooling: str, rank: int) -> Callable[[dict[str, Any]], Made | None]:
    """Pooling to so many places along each axis, whose windows may overlap and be of two sizes.

    After `_adaptive_average_pool2d` and its like in `keras/src/backend/tensorflow/nn.py`.
    """

    def made(settings: dict[str, Any]) -> Made | None:
        counts = settings["output_size"]
        counts = [counts] * rank if isinstance(counts, int) else list(counts)

        def make(name: str, tensor: Any) -> Any:
            if None in tensor.shape[1:]:
                return None
            for axis, count in enumerate(counts, 1):
                tensor = _pooled(name if axis == rank else f"{name}_{axis}", tensor, axis, count, pooling)
            return tensor

        return (None, make) if settings["data_format"] == "channels_last" else None

    return made


def _pooled(name: str, tensor: Any, axis: int, count: int, pooling: str) -> Any:
    """Pooling to so many places along one axis."""
    import tensorflow as tf

    size, rank = tensor.shape[axis], len(tensor.shape) - 2
    windows = [(place * size // count, -(-(place + 1) * size // count)) for place in range(count)]
    widths = sorted({end - start for start, end in windows})

    def pool(width: int, step: int, name: str) -> Any:
        layer = getattr(tf.keras.layers, f"{pooling}Pooling{rank}D")
        window, steps = ([each if place == axis else 1 for place in range(1, rank + 1)] for each in (width, step))
        return layer(window, steps, name=name)(tensor)

    if size % count == 0:
        return pool(widths[0], widths[0], name)
    parts = [pool(width, 1, f"{name}_of_{width}") for width in widths]
    begins = dict(zip(widths, np.cumsum([0, *(part.shape[axis] for part in parts)]), strict=False))
    places = [int(begins[end - start] + start) for start, end in windows]
    whole = tf.keras.layers.Concatenate(axis, name=f"{name}_sizes")(parts) if len(parts) > 1 else parts[0]
    return operated("gather", name, whole, places, axis=axis)


MADE: dict[str, Callable[[dict[str, Any]], Made | None]] = {
    "RMSNormalization": _rms_normalization,
    **{
        f"Adaptive{pooling}Pooling{rank}D": _adaptive(pooling, rank)
        for pooling in ("Average", "Max")
        for rank in (1, 2, 3)
    },
}
