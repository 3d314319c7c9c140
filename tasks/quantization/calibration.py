"""Calibration: from what a tensor showed to the range that it is quantized with, on NumPy arrays and nothing else.

A histogram `(BINS,)` counts what was seen, evenly between the smallest and the largest value. A narrower range than
that cuts values off and makes the steps finer for all others.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.measuring.arrays import Floats

ToolchainCalibration = Literal["minmax", "percentile", "entropy"]  # what ONNX Runtime's own tool knows
Calibration = Literal[ToolchainCalibration, "mse"]

BINS = 2048  # of a histogram, as TensorRT's and ONNX Runtime's calibrators have it
LEVELS = 256  # of 8 bits
CANDIDATES = 64  # thresholds that the entropy calibration tries, and shares of a side that the squared error tries


class CalibrationConfig(BaseModel, frozen=True, extra="forbid"):
    """How a target's own toolchain is to set the ranges of a model that has none."""

    examples: int = Field(description="How many training examples it looks at.")
    method: ToolchainCalibration
    percentile: float


@dataclass
class Seen:
    """What a tensor showed: `low` and `high` are the ends, `counts` `(BINS,)` the histogram between them."""

    low: float
    high: float
    counts: Floats

    @classmethod
    def between(cls, low: float, high: float) -> "Seen":
        """Nothing seen yet, of a tensor whose values lie between these."""
        return cls(low, high, np.zeros(BINS))

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count a tensor's values, of any shape."""
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    @property
    def edges(self) -> Floats:
        """Where bins begin and end, `(BINS + 1,)`."""
        return np.linspace(self.low, self.high, BINS + 1)


def chosen_range(seen: Seen, method: Calibration, percentile: float) -> tuple[float, float]:
    """The range to quantize a tensor with; never wider than what was seen, and zero is always in it.

    Args:
        seen: of the tensor.
        method: all that was seen; without the outermost values; the one that loses least information; or the one whose
            rounded values are off by the least squares.
        percentile: for `percentile`, how many percent of the values stay inside.

    """
    if method == "minmax" or seen.high <= seen.low or not seen.counts.any():
        low, high = seen.low, seen.high
    elif method == "percentile":
        low, high = _percentile(seen, percentile)
    elif method == "entropy":
        low, high = _entropy(seen)
    else:
        low, high = _least_squares(seen)
    return min(low, 0.0), max(high, 0.0)


def _percentile(seen: Seen, percentile: float) -> tuple[float, float]:
    """Cuts off the same share on both sides."""
    below = np.cumsum(seen.counts) / seen.counts.sum()
    tail = (1 - percentile / 100) / 2
    first = int(np.searchsorted(below, tail, side="right"))
    last = int(np.searchsorted(below, 1 - tail, side="left"))
    return float(seen.edges[first]), float(seen.edges[min(last, BINS - 1) + 1])


def _entropy(seen: Seen) -> tuple[float, float]:
    """The threshold about zero whose 8-bit histogram diverges least from the one that was seen.

    Migacz 2017, "8-bit inference with TensorRT": for each candidate, values beyond it are counted at its edge (the
    reference), and the same bins are merged to as many levels as there are (the approximation); the smallest
    Kullback-Leibler divergence wins. Activations are quantized asymmetrically here, so each side is cut at the
    threshold only if it reaches that far.
    """
    edges = seen.edges
    reach = max(abs(seen.low), abs(seen.high))
    best, least = reach, np.inf
    for threshold in np.linspace(reach / 16, reach, CANDIDATES):
        first = int(np.searchsorted(edges, max(seen.low, -threshold), side="right")) - 1
        last = int(np.searchsorted(edges, min(seen.high, threshold), side="left"))
        if last - first < 2:
            continue
        inside = seen.counts[first:last]
        reference = inside.copy()
        reference[0] += seen.counts[:first].sum()
        reference[-1] += seen.counts[last:].sum()
        divergence = _divergence(reference, _merged(inside))
        if divergence < least:
            best, least = float(threshold), divergence
    return max(seen.low, -best), min(seen.high, best)


def _least_squares(seen: Seen) -> tuple[float, float]:
    """The range whose rounded and cut values are off from what was seen by the least sum of squares.

    Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1. Both sides are drawn in together
    first, then each by itself.
    """
    values = (seen.edges[:-1] + seen.edges[1:]) / 2
    shares = [float(share) for share in np.linspace(1 / CANDIDATES, 1, CANDIDATES)]

    def off(low: float, high: float) -> float:
        step = (high - low) / (LEVELS - 1)
        first = np.rint(low / step)  # zero is a step, as in kernels
        rounded = np.clip(np.rint(values / step), first, first + LEVELS - 1) * step
        return float(seen.counts @ np.square(rounded - values))

    def best(ranges: list[tuple[float, float]]) -> tuple[float, float]:
        return min((each for each in ranges if each[1] > each[0]), key=lambda each: off(*each))

    low, high = best([(seen.low * share, seen.high * share) for share in shares])
    low, high = best([(low, high), *((low, seen.high * share) for share in shares)])
    return best([(low, high), *((seen.low * share, high) for share in shares)])


def _merged(counts: Floats) -> Floats:
    """A histogram as 8 bits would show it: each level's count spread over those of its bins that hold something."""
    level = np.arange(counts.size) * LEVELS // max(counts.size, LEVELS)
    filled = counts > 0
    total = np.bincount(level, counts, LEVELS)
    spread = np.bincount(level, filled, LEVELS)
    share: Floats = np.divide(total, spread, out=np.zeros(LEVELS), where=spread > 0)[level] * filled
    return share


def _divergence(reference: Floats, approximation: Floats) -> float:
    """Kullback-Leibler divergence in nats; what the approximation cannot show is very rare, not impossible."""
    p = reference / reference.sum()
    q = approximation / approximation.sum() if approximation.any() else approximation
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-9))))
