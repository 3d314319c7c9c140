"""Each of several targets by itself: its own score and drop, so that none hides behind another's scale."""

from collections.abc import Sequence

from pydantic import BaseModel, Field

from tasks.measuring.arrays import Floats
from tasks.measuring.intervals import Interval, interval, paired_interval


class TargetScore(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right one of several targets is answered."""

    score: Interval = Field(description="Its own R².")
    drop: Interval = Field(description="By how much it lies below the reference's.")


def by_target(
    names: Sequence[str], reference: Floats, candidate: Floats, confidence: float = 0.95, seed: int = 0
) -> dict[str, TargetScore]:
    """Each target's own R² and drop, by its name, of scores `(n, targets)` on the same examples.

    Empty where there is one score for each example, which `interval` and `paired_interval` tell all of. Targets without
    names are counted from 0.
    """
    if reference.ndim == 1:
        return {}
    scores = {}
    for number, (before, after) in enumerate(zip(reference.T, candidate.T, strict=True)):
        scores[names[number] if names else f"target_{number}"] = TargetScore(
            score=interval(after, "regression", confidence, seed),
            drop=paired_interval(before, after, "regression", confidence, seed),
        )
    return scores
