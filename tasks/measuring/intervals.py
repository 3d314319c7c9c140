"""Confidence intervals.

The methods, so that anyone can check a figure:

- a share of right answers: Wilson's score interval (Wilson 1927);
- the difference of two such shares on the same examples: Tango's score interval (Tango 1998, Statistics in Medicine
  17:891-908), which has a width even when both models are right on the same examples;
- a mean that is no share, and the mean of paired differences: BCa bootstrap over examples (Efron 1987);
- a figure of all examples together, such as an area under a curve, and the difference of two: the same bootstrap, with
  the figure reckoned anew for each resample, and the jackknife over blocks of examples;
- the difference of two shares, each on examples of its own: Newcombe's (1998), from the intervals of the two.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.measuring.arrays import Figure, Floats

BLOCKS = 200  # that a jackknife leaves out one at a time
RESAMPLES = 2000  # of a bootstrap: an end of the 95% interval moves by about 3% of the interval's width between seeds


class Interval(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """An estimate and the ends of its confidence interval."""

    low: Figure = Field(description="The lower end.")
    estimate: Figure = Field(description="What was measured.")
    high: Figure = Field(description="The upper end.")


def mean_interval(values: Floats, confidence: float = 0.95, seed: int = 0, *, share: bool = False) -> Interval:
    """The mean score with its interval: Wilson's for a share of right answers, else BCa bootstrap over examples.

    Of scores `(n, targets)` it is the mean over the targets too. `share` says that scores are 1 or 0, one an example.
    """
    if share:
        return wilson(int(values.sum()), len(values), confidence)
    return bootstrap_mean(values.reshape(len(values), -1).mean(axis=1), confidence, seed)


def paired_interval(
    reference: Floats, candidate: Floats, confidence: float = 0.95, seed: int = 0, *, share: bool = False
) -> Interval:
    """By how much the candidate's mean score lies below the reference's, on the same examples `(n,)`.

    Tango's interval for shares of right answers, else BCa bootstrap of the differences. Of scores `(n, targets)` it is
    the worst target's, by the interval's bad end: a budget then holds for every target, and none hides behind another.
    """
    if share:
        lost = int(((reference == 1) & (candidate == 0)).sum())
        gained = int(((reference == 0) & (candidate == 1)).sum())
        return tango(lost, gained, len(reference), confidence)
    away = (reference - candidate).reshape(len(reference), -1)
    drops = [bootstrap_mean(np.ascontiguousarray(each), confidence, seed) for each in away.T]
    return max(drops, key=lambda drop: drop.high)


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(right: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share `right / n` (Wilson 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return Interval(low=low, estimate=right / n, high=high)


def tango_statistic(lost: int, gained: int, n: int, difference: float) -> float:
    """The score statistic of the hypothesis that the paired difference of shares is `difference`, within (-1, 1).

    Tango 1998, equations 24 to 26, in the sign that has `difference` = P(lost) - P(gained). `lost` and `gained` are the
    examples of n that only the first, or only the second, has right. At `difference` 0 it is McNemar's statistic.
    """
    b = -lost - gained + (2 * n - lost + gained) * difference
    root = math.sqrt(max(b * b + 8 * n * gained * difference * (1 - difference), 0.0))
    # The root of 2n·q² + b·q - gained·difference·(1 - difference), in the form that does not cancel for b > 0.
    q = (root - b) / (4 * n) if b <= 0 else 2 * gained * difference * (1 - difference) / (root + b)
    spread = n * (2 * q + difference * (1 - difference))
    distance = lost - gained - n * difference
    if spread <= 0:  # the boundary of what is possible: any distance at all is then infinitely unlikely
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(spread)


def tango(lost: int, gained: int, n: int, confidence: float = 0.95) -> Interval:
    """Tango's score interval for the paired difference of shares `(lost - gained) / n` (Tango 1998)."""
    z, estimate = _z(confidence), (lost - gained) / n

    def end(far: float, quantile: float) -> float:
        """Where the statistic, which falls as the difference grows, is `quantile`: between the estimate and `far`."""
        near = estimate
        for _ in range(60):
            middle = (near + far) / 2
            inside = abs(tango_statistic(lost, gained, n, middle)) < abs(quantile)
            near, far = (middle, far) if inside else (near, middle)
        return (near + far) / 2

    return Interval(low=-1 if gained == n else end(-1.0, z), estimate=estimate, high=1 if lost == n else end(1.0, -z))


def bootstrap_mean(values: Floats, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `(n,)` with its bias-corrected and accelerated bootstrap interval (Efron 1987).

    Values that are all the same give an interval of no width: the bootstrap cannot know of others.

    `scipy.stats.bootstrap` draws the same and has the same ends, but it makes n samples of n - 1 for the jackknife,
    which a mean has in closed form: of 10,000 values it took 1.8 s and this 0.4 s, of 50,000 it took 35 s and this
    1.7 s (SciPy 1.17.1). It refuses a single value, and gives NaN and warnings where values differ by 1e-111.
    """
    n, mean = len(values), float(values.mean())
    away = values - mean
    square = float(np.square(away).sum())
    eps = np.finfo(np.float64).eps
    if n < 2 or square <= (eps * abs(mean)) ** 2 * n:
        return Interval(low=mean, estimate=mean, high=mean)
    random = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    rows = max(1, 2_000_000 // n)  # keeps what is drawn at once to about 24 MB
    for start in range(0, RESAMPLES, rows):
        drawn = random.integers(0, n, (min(rows, RESAMPLES - start), n), dtype=np.int32)
        means[start : start + len(drawn)] = away[drawn].mean(axis=1)
    noise = 16 * eps * float(np.abs(values).max())  # within it a resample has the sample's mean, summed up otherwise
    unit = away / np.abs(away).max()  # powers of tiny differences would vanish
    # the jackknife's, in closed form for a mean
    return _bca(mean, means, noise, _acceleration(unit), confidence)


def bootstrap_figure(
    figure: Callable[[Floats], Floats], units: npt.NDArray[np.int64], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """A figure of all examples together with its BCa bootstrap interval (Efron 1987).

    Args:
        figure: of weights `(resamples, n)`, how often each example stands in a resample, the figure of each
            `(resamples,)`; NaN where it has none, as an area under a curve without a positive example.
        units: `(n,)` from 0: the unit that each example belongs to. Whole units are drawn: each example by itself, or
            all of a patient together.
        confidence: of the interval.
        seed: of what is drawn.

    """
    n, count = len(units), int(units.max()) + 1
    whole = float(figure(np.ones((1, n)))[0])
    random = np.random.default_rng(seed)
    figures = np.empty(RESAMPLES)
    rows = max(1, 2_000_000 // n)
    for start in range(0, RESAMPLES, rows):
        taken = min(rows, RESAMPLES - start)
        drawn = random.integers(0, count, (taken, count)) + count * np.arange(taken)[:, None]
        often = np.bincount(drawn.reshape(-1), minlength=taken * count).reshape(taken, count)
        figures[start : start + taken] = figure(often[:, units].astype(np.float64))
    blocks = np.arange(count) * min(count, BLOCKS) // count  # units left out together, of which there are not too many
    left = [figure((blocks[units] != block).astype(np.float64)[None])[0] for block in range(int(blocks.max()) + 1)]
    left_out = np.array(left)
    left_out = left_out[np.isfinite(left_out)]
    figures = figures[np.isfinite(figures)]
    if len(left_out) < 2 or len(figures) < 2 or not np.ptp(figures):
        return Interval(low=whole, estimate=whole, high=whole)
    influence = left_out.mean() - left_out
    largest = np.abs(influence).max()
    acceleration = _acceleration(influence / largest) if largest else 0.0
    noise = 16 * np.finfo(np.float64).eps * float(np.abs(figures).max())
    return _bca(whole, figures - whole, noise, acceleration, confidence)


def _acceleration(unit: Floats) -> float:
    """From what each example, or each block of them, adds to a figure."""
    return float(np.power(unit, 3).sum() / (6 * np.square(unit).sum() ** 1.5))


def _bca(estimate: float, away: Floats, noise: float, acceleration: float, confidence: float) -> Interval:
    """From how far resamples' figures lie from the estimate; those nearer than `noise` are the same."""
    normal, resamples = NormalDist(), len(away)
    below = (np.count_nonzero(away < -noise) + np.count_nonzero(np.abs(away) <= noise) / 2) / resamples
    bias = normal.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples))

    def level(z: float) -> float:
        return normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    z = _z(confidence)
    low, high = np.quantile(away, [level(-z), level(z)])
    return Interval(low=estimate + min(float(low), 0.0), estimate=estimate, high=estimate + max(float(high), 0.0))


def independent_difference(a: Interval, b: Interval) -> Interval:
    """By how much b lies below a, where each was measured on examples of its own.

    From the two intervals alone, by variance estimates recovery (Zou and Donner 2008); of Wilson's intervals it makes
    Newcombe's score interval for independent shares (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    """
    difference = a.estimate - b.estimate
    below = math.hypot(a.estimate - a.low, b.high - b.estimate)
    above = math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(low=difference - below, estimate=difference, high=difference + above)
