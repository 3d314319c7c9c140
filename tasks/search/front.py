"""What came out of a search: which trials no other beats, and which one is taken."""

import math
from collections.abc import Sequence

from tasks.contract.budget import Budget
from tasks.contract.named import ONE
from tasks.search.space import Goal
from tasks.search.study import Outcome, Trial


def front(trials: Sequence[Trial], aims: Sequence[Goal]) -> list[Trial]:
    """Those that were measured and that none beats: is as good in every goal, and better in one (Pareto)."""
    measured = [trial for trial in trials if trial.outcome.how == "measured"]
    points = {trial.number: values(trial, aims) for trial in measured}
    return [
        trial
        for trial in measured
        if not any(beats(other, points[trial.number]) for number, other in points.items() if number != trial.number)
    ]


def values(trial: Trial, aims: Sequence[Goal]) -> tuple[float, ...]:
    """A trial's figure of each goal; less is better."""
    return tuple(trial.outcome.value(goal) for goal in aims)


def best(trials: Sequence[Trial], aims: Sequence[Goal], budget: Budget) -> Trial | None:
    """The one to take, of the front of those inside the budget; none if none may be.

    Accuracy is held by the budget: of sizes and latencies the geometric mean decides, and of equals the smaller drop.
    Where the validation split is too small for any drop's interval to lie inside the budget, those count whose drop as
    it was measured does: the test split has the last word in any case, and about one model alone.
    """
    inside = [trial for trial in trials if trial.outcome.inside]
    inside = inside or [trial for trial in trials if seems_inside(trial.outcome, budget)]
    costs = [goal for goal in aims if goal.figure != "accuracy"]

    def order(trial: Trial) -> tuple[float, float, int]:
        mean = math.fsum(math.log(trial.outcome.value(goal)) for goal in costs) / max(len(costs), 1)
        return mean, trial.outcome.value(Goal("", "accuracy")), trial.number

    return min(front(inside, aims), key=order, default=None)


def seems_inside(outcome: Outcome, budget: Budget) -> bool:
    """Whether the budget is kept by what was measured, though not by the bad ends of drops' intervals."""
    if outcome.how != "measured":
        return False
    drops = [
        (*budget.accuracy_of(head), drop.estimate)
        for file in outcome.files
        for head, drop in (file.drops or {ONE: file.drop}).items()
    ]
    kept = {name for name, _, _ in drops} - {name for name, limit, drop in drops if drop > limit}
    return set(outcome.misses) <= kept


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether figures, of which less is better, are as good in all and better in one."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
