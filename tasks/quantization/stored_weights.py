"""Weights that no integer kernel multiplies, in 8 bits all the same: a file has them so, and runtimes compute in float.

They become floats once, when a file is opened, or, of a table that embeddings are looked up in, where rows are found.
They take a quarter of the bytes, and no more time.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import kind

if TYPE_CHECKING:
    import tensorflow as tf

LEVELS = 127
NEAR = 1e-3  # of a step: what is nearer to a whole number of them was rounded to it
WORTH = 256  # numbers from which a weight is worth the operators that make floats of it
CELLS = frozenset({"ConvLSTMCell", "GRUCell", "LSTMCell", "SimpleRNNCell"})


def store(model: "tf.keras.Model", float_layers: Collection[str] = ()) -> None:
    """Round, in place, the weights of a fake-quantized model that its kernels take in float.

    Args:
        model: flat.
        float_layers: names of layers that keep theirs.

    """
    for layer in model.layers:
        if layer.name not in float_layers:
            for weight, axes in _weights(layer):
                weight.assign(rounded(weight.numpy(), axes))


def _weights(layer: "tf.keras.layers.Layer") -> Iterator[tuple[Any, tuple[int, ...]]]:
    """A layer's weights, each with the axes that have steps of their own: those of what is summed up separately."""
    for part in layer._flatten_layers():
        if kind(part) == "Embedding":
            yield part.embeddings, ()  # one step, so that what becomes of rows may stay in it
        elif kind(part) in CELLS:
            for kernel in (part.kernel, part.recurrent_kernel):
                yield kernel, (kernel.shape.rank - 1,)
        elif kind(part) == "EinsumDense":
            taken, given = part.equation.replace(" ", "").split("->")
            axes = taken.split(",")[1]
            yield part.kernel, tuple(place for place, axis in enumerate(axes) if axis in given)


def steps(weight: np.ndarray, axes: Collection[int] = ()) -> np.ndarray:
    """The sizes of the steps that a weight is rounded to, one for each place of some axes; 0 where all is zero."""
    others = tuple(axis for axis in range(weight.ndim) if axis not in axes)
    largest: np.ndarray = np.abs(weight).max(axis=others, keepdims=True, initial=0)
    return largest.astype(np.float32) / np.float32(LEVELS)


def rounded(weight: np.ndarray, axes: Collection[int] = ()) -> np.ndarray:
    """A weight's numbers in whole steps."""
    sizes = steps(weight, axes)
    numbers: np.ndarray = np.rint(weight / np.where(sizes, sizes, 1)).astype(np.float32) * sizes
    return numbers


def counts(weight: np.ndarray, axes: Collection[int] = ()) -> np.ndarray | None:
    """A weight that was rounded, as whole numbers of its steps, int8; none of one that was not."""
    if weight.dtype != np.float32 or weight.ndim < 2 or weight.size < WORTH:
        return None
    sizes = steps(weight, axes)
    exact = weight / np.where(sizes, sizes, 1)
    near = np.rint(exact)
    return near.astype(np.int8) if sizes.any() and np.abs(exact - near).max() < NEAR else None


def stored(weight: np.ndarray, *, joint: bool = False) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]] | None:
    """A weight as files have it: whole numbers, int8, the steps, and their axes; none if it was not rounded.

    Converters turn, join and split weights; what has a step of its own stays together, along whichever axes that is.

    Args:
        weight: as a file has it, float32.
        joint: whether a step may be of a place of all axes but one, besides a place of one axis.

    """
    axes = range(weight.ndim)[::-1]
    candidates: list[tuple[int, ...]] = [(axis,) for axis in axes]
    candidates += [tuple(other for other in axes if other != axis) for axis in axes] if joint else []
    for own in candidates:
        if (numbers := counts(weight, own)) is not None:
            sizes = steps(weight, own)
            return numbers, np.where(sizes, sizes, np.float32(1)), own
    return None
