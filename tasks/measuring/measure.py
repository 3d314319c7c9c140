"""How right answers to the same examples are, by one metric: figures with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import MetricError
from tasks.contract.problem import Problem
from tasks.measuring import intervals
from tasks.measuring.arrays import Floats, Outputs
from tasks.measuring.intervals import Interval
from tasks.measuring.metrics import Metric, metric_of
from tasks.measuring.scores import constant_answers
from tasks.measuring.target_scores import TargetScore


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric of a model's answers to examples.

    y: the right answers, as `example_scores` takes them.
    names: of several targets.
    groups: `(n,)` from 0: the group of each example, which are drawn together; none where each is by itself.
    """

    metric: Metric
    problem: Problem
    y: npt.NDArray[Any]
    names: tuple[str, ...] = ()
    groups: npt.NDArray[np.int64] | None = None
    confidence: float = 0.95
    seed: int = 0

    @property
    def share(self) -> bool:
        """Whether the metric is a share of right answers, one an example, each by itself."""
        return self.metric.share and self.y.ndim == 1 and self.groups is None

    def values(self, answers: Outputs) -> Floats | None:
        """Each example's value `(n,)`, or each target's `(n, targets)`; none where the metric has no such."""
        return None if self.metric.means is None else self.metric.means(self.y, answers)

    def figure(self, answers: Outputs) -> float:
        """The metric alone."""
        values = self.values(answers)
        return float(self._together(answers)(np.ones((1, len(self.y))))[0] if values is None else values.mean())

    def interval(self, answers: Outputs) -> Interval:
        """The metric with its interval; of several targets the mean over them."""
        values = self.values(answers)
        if values is not None and self.groups is None:
            return intervals.mean_interval(values, self.confidence, self.seed, share=self.share)
        figure = self._together(answers) if values is None else _mean_of(values.reshape(len(values), -1).mean(axis=1))
        return intervals.bootstrap_figure(figure, self._units, self.confidence, self.seed)

    def drop(self, reference: Outputs, answers: Outputs) -> Interval:
        """By how much answers are worse than a reference's to the same examples, with the paired interval.

        Of several targets it is the worst one's, by the interval's bad end.
        """
        before, after = self.values(reference), self.values(answers)
        if before is None or after is None:
            figures, sign = (self._together(reference), self._together(answers)), self.metric.sign
            return intervals.bootstrap_figure(
                lambda weights: sign * (figures[0](weights) - figures[1](weights)),
                self._units,
                self.confidence,
                self.seed,
            )
        return self._paired(before, after)

    def by_target(self, reference: Outputs, answers: Outputs) -> dict[str, TargetScore]:
        """Each of several targets' own figure and drop, by its name; those without names are counted from 0.

        Empty where there is one figure for each example, of which `interval` and `drop` say all.
        """
        before, after = self.values(reference), self.values(answers)
        if before is None or after is None or before.ndim == 1:
            return {}
        return {
            self.names[number] if self.names else f"target_{number}": TargetScore(
                score=self._mean(after[:, number]), drop=self._paired(before[:, number], after[:, number])
            )
            for number in range(before.shape[1])
        }

    def of(self, rows: npt.NDArray[np.bool_]) -> "Measure":
        """The same of some of the examples."""
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        return replace(self, y=self.y[rows], groups=groups)

    def guessing(self, classes: int) -> float:
        """What who always says the same has: the commonest class or labels, or the mean."""
        return self.figure(constant_answers(self.problem, self.y, classes))

    def _mean(self, values: Floats) -> Interval:
        if self.groups is None:
            return intervals.mean_interval(values, self.confidence, self.seed)
        return intervals.bootstrap_figure(_mean_of(values), self.groups, self.confidence, self.seed)

    def _paired(self, before: Floats, after: Floats) -> Interval:
        """Of values `(n,)` or `(n, targets)`: in these the worst one's."""
        if self.metric.lower:
            before, after = after, before
        if self.groups is None:
            return intervals.paired_interval(before, after, self.confidence, self.seed, share=self.share)
        away = (before - after).reshape(len(before), -1)
        return max((self._mean(each) for each in away.T), key=lambda drop: drop.high)

    def _together(self, answers: Outputs) -> Any:
        assert self.metric.together is not None
        return self.metric.together(self.y, answers)

    @property
    def _units(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self.y)) if self.groups is None else self.groups


def _mean_of(values: Floats) -> Any:
    """What gives the mean of values `(n,)` for weights `(resamples, n)`."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def measure_of(
    metric: str,
    problem: Problem,
    y: npt.NDArray[Any],
    variance: float | Sequence[float] = 1.0,
    *,
    names: Sequence[str] = (),
    groups: npt.NDArray[np.int64] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Measure:
    """What measures answers to examples whose right answers are y.

    Args:
        metric: its name, as `metric_of` takes it.
        problem: what is solved.
        y: as `example_scores` takes them.
        variance: of the train targets, as `example_scores` takes it.
        names: of several targets.
        groups: `(n,)`: numbers, alike where examples belong together.
        confidence: of intervals.
        seed: of bootstraps.

    Raises:
        MetricError: there is no such metric for this problem, or for several answers an example.

    """
    known = metric_of(metric, problem, variance)
    if problem == "classification" and y.ndim > 1 and not known.places:
        raise MetricError(
            "validate.metric", metric, "is made for one class an example, and here there are several: take mean_iou"
        )
    units = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return Measure(known, problem, y, tuple(names), units, confidence, seed)
