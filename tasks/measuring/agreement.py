"""Whether answers are those that they stand for: compared channel by channel, on NumPy arrays and nothing else.

Each output channel may be off by a share of its own range, what its values span over all examples and places. A share
of the largest of all would let a score of 0 to 1 go wrong unseen beside boxes in pixels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tasks.contract.named import ONE, field, names_of
from tasks.measuring.arrays import Outputs

# What float32 is off by, as a share: of a channel's own range, after some hundred layers that sum up in another order;
# and of the largest value of all, below which sums that went through the same layers have no digits left.
FLOAT = 1e-4
NOISE = 1e-6


class Difference(NamedTuple):
    """Where answers are furthest from what they stand for.

    channel: of the outputs, counted from 0. size: by how much, in the output's unit. span: of that channel's values.
    share: the size over what was allowed; up to 1 is as it should be. name: of the output, where there are several.
    """

    channel: int
    size: float
    span: float
    share: float
    name: str = ONE

    def __str__(self) -> str:
        """In words."""
        off = f"{self.size:.3g} off" if np.isfinite(self.size) else "no number"
        where = f"{self.name}[{self.channel}]" if self.name != ONE else str(self.channel)
        return f"output {where} is {off}, where its values span {self.span:.3g}"


def furthest(actual: Outputs, expected: Outputs) -> Difference:
    """The output channel that is furthest from what it should be.

    Args:
        actual: answers `(n, …, channels)`, or records of them.
        expected: what they should be, of the same shape; what is no number there is never agreed with.

    """
    if expected.dtype.names:
        each = (furthest(field(actual, name), field(expected, name))._replace(name=name) for name in names_of(expected))
        return worst(each)
    expected = _rows(expected)
    off = np.abs(_rows(actual) - expected)
    off[~np.isfinite(off)] = np.inf
    sizes = off.max(axis=0)
    spans = np.ptp(expected, axis=0)
    largest = np.abs(expected).max(axis=0)
    spans = np.where(spans > 0, spans, largest)  # of a channel that never changes, its value
    limits = FLOAT * spans + NOISE * largest.max(initial=0)
    shares = np.nan_to_num(sizes / np.maximum(limits, np.finfo(np.float32).tiny), nan=np.inf)
    channel = int(np.argmax(shares))
    return Difference(channel, float(sizes[channel]), float(spans[channel]), float(shares[channel]))


def worst(differences: Iterable[Difference]) -> Difference:
    """The one that is furthest over what was allowed."""
    return max(differences, key=lambda difference: difference.share)


def mean_steps(actual: Outputs, expected: Outputs, step: float, most: float, most_shift: float) -> Difference:
    """The output channel of an integer file that is furthest from what it should be, in the mean over all examples.

    Sums that are rounded to the other step scatter answers to both sides; a fault moves them to one.

    Args:
        actual: answers `(n, …, channels)`.
        expected: what they should be, of the same shape.
        step: the size of a step, in the outputs' unit.
        most: how many steps they may be off by, in the mean.
        most_shift: how many to one side, in the mean.

    """
    expected = _rows(expected)
    off = _rows(actual) - expected
    off[~np.isfinite(off)] = np.inf
    sizes, shifts = np.abs(off).mean(axis=0), np.abs(off.mean(axis=0))
    shares = np.nan_to_num(np.maximum(sizes / most, shifts / most_shift) / step, nan=np.inf)
    channel = int(np.argmax(shares))
    size = max(float(sizes[channel]), float(shifts[channel]))
    return Difference(channel, size, float(np.ptp(expected[:, channel])), float(shares[channel]))


def _rows(outputs: Outputs) -> np.ndarray:
    """One row for each example and place; a vector's values are channels each, and so are those without an axis."""
    values = outputs.astype(np.float64)
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
