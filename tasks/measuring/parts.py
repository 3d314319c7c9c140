"""Parts of the examples by themselves, as a mean hides one that lost: each class, and each slice of the data."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.contract.problem import Problem
from tasks.measuring.arrays import Figure, Outputs
from tasks.measuring.intervals import Interval
from tasks.measuring.measure import Measure
from tasks.measuring.scores import by_class, labels_of


class ClassScore(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right one class, or one of several labels, is answered."""

    labels: int = Field(ge=0, description="How often it is there: in examples, or at places of them.")
    recall: Figure | None = Field(ge=0, le=1, description="Of these the share that is answered with it; none of none.")
    precision: Figure | None = Field(ge=0, le=1, description="Of the answers that name it the share that is right.")


class SliceScore(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right the examples of one slice are answered."""

    examples: int = Field(ge=1, description="Test examples in it.")
    score: Interval = Field(description="The metric on them.")
    drop: Interval = Field(description="By how much it is worse than the reference's on them, in pairs.")


def classes_of(
    problem: Problem, y: npt.NDArray[Any], answers: Outputs, names: tuple[str, ...]
) -> dict[str, ClassScore]:
    """Each class's, or label's, own recall and precision, by its name; nothing of numbers."""
    if not names:
        return {}
    if problem == "multilabel":
        truth, said = y >= 0.5, labels_of(answers)
        there, named, right = (each.sum(axis=0) for each in (truth, said, truth & said))
    else:
        labels, answered = y.astype(np.int64).reshape(-1), by_class(answers).argmax(axis=-1).reshape(-1)
        there, named, right = (
            np.bincount(each, minlength=len(names)) for each in (labels, answered, labels[labels == answered])
        )
    return {
        name: ClassScore(
            labels=int(there[number]),
            recall=float(right[number] / there[number]) if there[number] else None,
            precision=float(right[number] / named[number]) if named[number] else None,
        )
        for number, name in enumerate(names)
    }


def slices_of(
    measure: Measure, slices: npt.NDArray[Any], reference: Outputs, answers: Outputs
) -> dict[str, SliceScore]:
    """The metric and drop on each slice, by its name; those too small to have the metric are left out.

    Args:
        measure: of all examples.
        slices: `(n,)`: the slice of each.
        reference: what drops are counted from `(n, …)`.
        answers: `(n, …)`.

    """
    scores = {}
    for name in np.unique(slices):
        rows = slices == name
        part = measure.of(rows)
        figures = [part.figure(each[rows]) for each in (reference, answers)]
        if np.isfinite(figures).all():
            scores[str(name)] = SliceScore(
                examples=int(rows.sum()),
                score=part.interval(answers[rows]),
                drop=part.drop(reference[rows], answers[rows]),
            )
    return scores
