"""Successive halving: which of the trials that wait at a rung go on (Jamieson and Talwalkar 2016)."""

import math
from collections.abc import Sequence

from tasks.search.front import beats
from tasks.search.space import Goal
from tasks.search.study import Trial

COST_LIMITS = ("max_size_bytes", "min_size_ratio", "max_latency_ms", "min_speedup", "min_integer_share")


def going_on(waiting: Sequence[Trial], aims: Sequence[Goal], factor: int) -> list[int]:
    """The numbers of those that go on: one in `factor`, and at least one; none if none waits."""
    count = max(1, len(waiting) // factor)
    return sorted(trial.number for trial in in_order(waiting, aims)[:count])


def in_order(waiting: Sequence[Trial], aims: Sequence[Goal]) -> list[Trial]:
    """Trials that were trained in part, the best ones first, whatever the order that they are given in.

    Those whose files miss a limit of size, speed or integers stand behind those that miss less (Deb et al. 2002). Of
    the others come first those that none beats in the validation score so far and in every cost among the goals, then
    those that only these beat, and so on. Within such a front the one with the best score is the first, as the budget
    holds accuracy, and then each time the one that is farthest from those before it, as in multi-objective ASHA
    (Schmucker et al. 2021): so what goes on spreads over the front.
    """
    left = sorted(waiting, key=lambda trial: trial.number)
    points = dict(
        zip((trial.number for trial in left), _scaled([_figures(trial, aims) for trial in left]), strict=True)
    )
    missed = {trial.number: _missed(trial) for trial in left}

    def is_beaten(trial: Trial, other: Trial) -> bool:
        one, by = missed[trial.number], missed[other.number]
        return by < one or (by == one and beats(points[other.number], points[trial.number]))

    ordered: list[Trial] = []
    while left:
        front = [trial for trial in left if not any(is_beaten(trial, other) for other in left)]
        left = [trial for trial in left if trial not in front]
        ordered += _spread(front, points)
    return ordered


def _figures(trial: Trial, aims: Sequence[Goal]) -> list[float]:
    """What is known of a trial, of which less is better: how wrong it is so far, and logarithms of its costs."""
    reached = trial.outcome.reached
    assert reached is not None
    costs = [goal for goal in aims if goal.figure != "accuracy"]
    return [-reached.score, *(math.log(trial.outcome.value(goal)) for goal in costs)]


def _missed(trial: Trial) -> float:
    """By how much the limits that training does not move are missed, in all."""
    return math.fsum(by for name, by in trial.outcome.misses.items() if name in COST_LIMITS)


def _scaled(points: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Points with each of their figures from 0 to 1: distances are of no unit."""
    ranges = [(min(column), max(column)) for column in zip(*points, strict=True)]
    return [
        tuple(
            (value - low) / (high - low) if high > low else 0.0
            for value, (low, high) in zip(point, ranges, strict=True)
        )
        for point in points
    ]


def _spread(front: Sequence[Trial], points: dict[int, tuple[float, ...]]) -> list[Trial]:
    """A front's trials: the best score first, then each time the one farthest from all before it."""
    left = sorted(front, key=lambda trial: (points[trial.number], trial.number))
    ordered, left = left[:1], left[1:]
    while left:
        farthest = max(
            left, key=lambda trial: min(math.dist(points[trial.number], points[each.number]) for each in ordered)
        )
        ordered.append(farthest)
        left.remove(farthest)
    return ordered
