"""How right answers are: a score for each example, and the figures that a mean score hides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.contract.problem import Problem
from tasks.measuring.arrays import Figure, Floats, Outputs

SMALLEST_PROBABILITY = 1e-7  # log loss takes smaller ones for this: integer files answer with exact zeros

SCORE_NAMES: dict[Problem, str] = {
    "classification": "accuracy",
    "multilabel": "label_accuracy",
    "regression": "r2",
    "reconstruction": "r2",
}


def example_scores(
    problem: Problem, y: npt.NDArray[Any], prediction: Outputs, variance: float | Sequence[float] = 1.0
) -> Floats:
    """Each example's score, whose mean is the accuracy or R².

    Args:
        problem: classification scores 1.0 for a right answer and 0.0 for a wrong one, where there is one for each place
            of an example the share of right ones; multilabel the share of labels that are rightly there or not;
            the others 1 - mean((y - prediction)²) / variance, which is 1 for a perfect answer and has no lower bound.
        y: labels `(n, …)` for a classification, zeros and ones `(n, labels)` for multilabel, else values of the
            prediction's shape.
        prediction: `(n, …, classes)`, one sigmoid unit's `(n, …, 1)` for two classes, `(n, labels)`, `(n, …, targets)`
            or `(n, …)`.
        variance: of the train targets, one for each of several targets; not used for classes and labels.

    Returns:
        `(n,)`; where there is a variance for each target, each target's own `(n, targets)`.

    """
    if problem in ("classification", "multilabel"):
        answers = labels_of(prediction) if problem == "multilabel" else by_class(prediction).argmax(axis=-1)
        return np.asarray((answers == y).reshape(len(y), -1).mean(axis=1), dtype=np.float64)
    error = np.square(prediction.astype(np.float64) - y)
    if np.ndim(variance):
        return np.asarray(1 - _by_target(error) / np.asarray(variance, np.float64), dtype=np.float64)
    return np.asarray(1 - error.reshape(len(y), -1).mean(axis=1) / variance, dtype=np.float64)


def _by_target(values: Floats) -> Floats:
    """Values `(n, …, targets)` as each target's mean over an example `(n, targets)`."""
    means: Floats = values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)
    return means


def by_class(answers: Outputs) -> Outputs:
    """A classifier's answers `(n, …, classes)`; of one sigmoid unit `(n, …, 1)`, the second class's share, of both."""
    return np.concatenate([1 - answers, answers], axis=-1) if answers.shape[-1] == 1 else answers


def label_shares(answers: Outputs) -> Floats:
    """Each label's probability, of a multilabel model's answers: those outside 0 to 1 are taken for logits."""
    values = answers.astype(np.float64)
    return 0.5 + 0.5 * np.tanh(values / 2) if are_logits(values) else values


def labels_of(answers: Outputs) -> npt.NDArray[np.bool_]:
    """Which labels a multilabel model's answers say are there: those of at least an even chance."""
    return np.asarray(label_shares(answers) >= 0.5)


def constant_answers(problem: Problem, y: npt.NDArray[Any], classes: int) -> Outputs:
    """What the best of those answers who always say the same: the commonest class, each label's commonest, the mean."""
    if problem == "classification":
        always = np.zeros((*y.shape, classes), np.float32)
        always[..., np.bincount(y.astype(np.int64).reshape(-1)).argmax()] = 1
        return always
    always = np.broadcast_to(y.mean(axis=0, keepdims=True), y.shape)
    return np.asarray(always >= 0.5 if problem == "multilabel" else always, np.float32)


def good_enough(score: float, floor: float, guess: float, *, lower: bool = False) -> bool:
    """Whether a teacher is worth keeping up with: a floor of 0 asks for better than guessing, one below for nothing.

    `lower` says that less is better, as of an error.
    """
    if floor < 0:
        return True
    if lower:
        return score <= floor if floor else score < guess
    return score >= floor if floor else score > guess


def agreement(a: Outputs, b: Outputs) -> float:
    """The share of answers `(n, …, classes)` of two that name the same class first."""
    return float((by_class(a).argmax(axis=-1) == by_class(b).argmax(axis=-1)).mean())


class Parity(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How far a file's outputs are from those of the Keras model that it was made from, element by element."""

    max_absolute: Figure = Field(ge=0, description="The largest difference.")
    mean_absolute: Figure = Field(ge=0, description="The mean difference.")
    max_relative: Figure = Field(ge=0, description="The largest difference over the Keras model's largest output.")
    agreement: Figure | None = Field(
        None, description="Share of answers with the same first class; classification only."
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
    """Counts `(classes, classes)`: the row is the label, the column the answer; at all places of all examples."""
    cells = y.astype(np.int64) * classes + by_class(prediction).argmax(axis=-1)
    return np.bincount(cells.reshape(-1), minlength=classes * classes).reshape(classes, classes).astype(np.int64)


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
        in nats, and with several answers an example `mean_iou`; for labels `exact_match`, the share of examples with
        all of them right, and `log_loss`; otherwise `rmse` and `mae` in the target's unit. Each of several targets has
        its own, behind a slash its name, and its `r2` where there is a variance for each.

    """
    if problem == "classification":
        return _of_classes(y.reshape(-1), by_class(prediction).reshape(y.size, -1)) | (
            {"mean_iou": _mean_iou(y, prediction)} if y.ndim > 1 else {}
        )
    if problem == "multilabel":
        right = labels_of(prediction) == y
        shares = np.where(y >= 0.5, label_shares(prediction), 1 - label_shares(prediction))
        log_loss = -np.log(np.clip(shares, SMALLEST_PROBABILITY, None)).mean()
        return {"exact_match": float(right.all(axis=1).mean()), "log_loss": float(log_loss)}
    if problem == "regression" and y.ndim > 1 and y.shape[-1] > 1:
        called = names or [f"target_{number}" for number in range(y.shape[-1])]
        each = [further_figures("reconstruction", y[..., n], prediction[..., n]) for n in range(y.shape[-1])]
        if np.ndim(variance):
            own = example_scores(problem, y, prediction, variance).mean(axis=0)
            each = [{"r2": float(score), **figures} for score, figures in zip(own, each, strict=True)]
        return {f"{kind}/{name}": figures[kind] for kind in each[0] for name, figures in zip(called, each, strict=True)}
    error = prediction.astype(np.float64) - y
    return {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}


def _of_classes(y: npt.NDArray[Any], prediction: Outputs) -> dict[str, float]:
    """Of labels `(n,)` and answers `(n, classes)`."""
    examples = np.bincount(y)  # by class; of a confusion matrix of many classes nearly all is zeros, and gigabytes
    right = np.bincount(y[prediction.argmax(axis=1) == y], minlength=len(examples))
    recall = right[examples > 0] / examples[examples > 0]
    probabilities = as_probabilities(prediction)
    return {
        "balanced_accuracy": float(recall.mean()),
        "worst_class_recall": float(recall.min()),
        "log_loss": float(-np.log(probabilities[np.arange(len(y)), y]).mean()),
    }


def _mean_iou(y: npt.NDArray[Any], prediction: Outputs) -> float:
    """Intersection over union of what is and what is answered, meaned over the classes that are in either."""
    matrix = confusion_matrix(y, prediction, by_class(prediction).shape[-1])
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
    return float((matrix.diagonal()[either > 0] / either[either > 0]).mean())


def as_probabilities(outputs: Outputs) -> Floats:
    """A classifier's answers `(n, …, classes)` as probabilities: those that lie outside 0 to 1 are taken for logits.

    Others for shares of the whole, which the probabilities of integer files are too.
    """
    values = outputs.astype(np.float64)
    if are_logits(values):
        values = np.exp(values - values.max(axis=-1, keepdims=True))
    values = np.clip(values, SMALLEST_PROBABILITY, None)
    shares: Floats = values / values.sum(axis=-1, keepdims=True)
    return shares


def class_shares(answers: Outputs) -> Outputs:
    """What a classifier's answers are ranked by, class by class: shares as they stand, so that ties stay ties."""
    shares = by_class(answers)
    return as_probabilities(shares) if are_logits(shares) else shares


def are_logits(values: Outputs) -> bool:
    """Whether answers are no shares, as they lie outside 0 to 1 by more than integers round."""
    return bool(values.min(initial=0) < -1e-3 or values.max(initial=0) > 1 + 1e-3)
