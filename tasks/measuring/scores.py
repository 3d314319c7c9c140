"""How right answers are: a score for each example, and the figures that a mean score hides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.contract.problem import Problem
from tasks.measuring.arrays import Figure, Floats, Outputs

SMALLEST_PROBABILITY = 1e-7  # log loss takes smaller ones for this: integer files answer with exact zeros

SCORE_NAMES: dict[Problem, str] = {"classification": "accuracy", "regression": "r2", "reconstruction": "r2"}


def example_scores(
    problem: Problem, y: npt.NDArray[Any], prediction: Outputs, variance: float | Sequence[float] = 1.0
) -> Floats:
    """Each example's score, whose mean is the accuracy or R².

    Args:
        problem: classification scores 1.0 for a right answer and 0.0 for a wrong one; the others
            1 - mean((y - prediction)²) / variance, which is 1 for a perfect answer and has no lower bound.
        y: labels `(n,)` for a classification, else values of the prediction's shape.
        prediction: `(n, classes)`, one sigmoid unit's `(n, 1)` for two classes, `(n, targets)` or `(n, …)`.
        variance: of the train targets, one for each of several targets; not used for a classification.

    Returns:
        `(n,)`; where there is a variance for each target, each target's own `(n, targets)`.

    """
    if problem == "classification":
        return np.asarray(by_class(prediction).argmax(axis=1) == y, dtype=np.float64)
    error = np.square(prediction.astype(np.float64) - y).reshape(len(y), -1)
    if np.ndim(variance):
        return np.asarray(1 - error / np.asarray(variance, np.float64), dtype=np.float64)
    return np.asarray(1 - error.mean(axis=1) / variance, dtype=np.float64)


def by_class(answers: Outputs) -> Outputs:
    """A classifier's answers `(n, classes)`; of one sigmoid unit `(n, 1)`, the share of the second class, of both."""
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


def guessing(problem: Problem, y: npt.NDArray[Any]) -> float:
    """The mean score of who always says the same: the commonest class, or, as good as nothing, the mean."""
    return float(np.bincount(y.astype(np.int64)).max() / len(y)) if problem == "classification" else 0.0


def good_enough(score: float, floor: float, guess: float) -> bool:
    """Whether a teacher is worth keeping up with: a floor of 0 asks for better than guessing, one below for nothing."""
    return floor < 0 or (score >= floor if floor else score > guess)


def agreement(a: Outputs, b: Outputs) -> float:
    """The share of examples on which two outputs `(n, classes)` name the same class first."""
    return float((by_class(a).argmax(axis=1) == by_class(b).argmax(axis=1)).mean())


class Parity(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How far a file's outputs are from those of the Keras model that it was made from, element by element."""

    max_absolute: Figure = Field(ge=0, description="The largest difference.")
    mean_absolute: Figure = Field(ge=0, description="The mean difference.")
    max_relative: Figure = Field(ge=0, description="The largest difference over the Keras model's largest output.")
    agreement: Figure | None = Field(
        None, description="Share of examples with the same first class; classification only."
    )


def parity(problem: Problem, reference: Outputs, outputs: Outputs) -> Parity:
    """Compare outputs of the same shape `(n, …)`."""
    difference = np.abs(reference.astype(np.float64) - outputs)
    largest = float(difference.max())
    scale = float(np.abs(reference).max())
    return Parity(
        max_absolute=largest,
        mean_absolute=float(difference.mean()),
        max_relative=largest / scale if scale else largest,
        agreement=agreement(reference, outputs) if problem == "classification" else None,
    )


def confusion_matrix(y: npt.NDArray[Any], prediction: Outputs, classes: int) -> npt.NDArray[np.int64]:
    """Counts `(classes, classes)`: the row is the label, the column the answer."""
    cells = y.astype(np.int64) * classes + by_class(prediction).argmax(axis=1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def further_figures(
    problem: Problem,
    y: npt.NDArray[Any],
    prediction: Outputs,
    names: Sequence[str] = (),
    variance: float | Sequence[float] = 1.0,
) -> dict[str, float]:
    """What a mean score hides: a class that collapsed, probabilities that are off, errors in the target's own unit.

    Args:
        problem: as `example_scores` takes it.
        y: as `example_scores` takes it.
        prediction: as `example_scores` takes it.
        names: of a regression's targets, where there are several.
        variance: as `example_scores` takes it.

    Returns:
        For a classification `balanced_accuracy`, `worst_class_recall` (over the classes that are in y) and `log_loss`
        in nats; otherwise `rmse` and `mae` in the target's unit. Each of several targets has its own, behind a slash
        its name, and its `r2` where there is a variance for each.

    """
    if problem == "regression" and y.ndim == 2 and y.shape[1] > 1:
        called = names or [f"target_{number}" for number in range(y.shape[1])]
        each = [further_figures(problem, y[:, [n]], prediction[:, [n]]) for n in range(y.shape[1])]
        if np.ndim(variance):
            own = example_scores(problem, y, prediction, variance).mean(axis=0)
            each = [{"r2": float(score), **figures} for score, figures in zip(own, each, strict=True)]
        return {f"{kind}/{name}": figures[kind] for kind in each[0] for name, figures in zip(called, each, strict=True)}
    if problem != "classification":
        error = prediction.astype(np.float64) - y
        return {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}
    prediction = by_class(prediction)
    examples = np.bincount(y)  # by class; of a confusion matrix of many classes nearly all is zeros, and gigabytes
    right = np.bincount(y[prediction.argmax(axis=1) == y], minlength=len(examples))
    recall = right[examples > 0] / examples[examples > 0]
    probabilities = as_probabilities(prediction)
    return {
        "balanced_accuracy": float(recall.mean()),
        "worst_class_recall": float(recall.min()),
        "log_loss": float(-np.log(probabilities[np.arange(len(y)), y]).mean()),
    }


def as_probabilities(outputs: Outputs) -> Floats:
    """A classifier's answers `(n, classes)` as probabilities: those that lie outside 0 to 1 are taken for logits.

    Others for shares of the whole, which the probabilities of integer files are too.
    """
    values = outputs.astype(np.float64)
    if values.min(initial=0) < -1e-3 or values.max(initial=0) > 1 + 1e-3:
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values = np.clip(values, SMALLEST_PROBABILITY, None)
    shares: Floats = values / values.sum(axis=1, keepdims=True)
    return shares
