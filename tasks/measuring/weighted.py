"""Metrics that are no mean over examples, of many resamples at once: examples weigh as often as they were drawn.

Each takes right answers and a model's, and gives a function from weights `(resamples, n)` to figures `(resamples,)`:
NaN where a resample has none. With all weights 1 they are scikit-learn's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.measuring.arrays import Floats, Outputs
from tasks.measuring.scores import by_class, class_shares, label_shares, labels_of

Figure = Callable[[Floats], Floats]
Labels = npt.NDArray[Any]
Counts = Callable[[Floats], tuple[Floats, Floats, Floats]]


def _together(y: Labels, answers: Outputs) -> bool:
    """Whether these are labels that may stand together: answers then have their very shape."""
    return y.shape == answers.shape and answers.shape[-1] > 1


def _counts(y: Labels, answers: Outputs) -> Counts:
    """What gives, for weights, each class's right answers, labels and answers `(resamples, classes)`.

    Of labels that may stand together a class is a label.
    """
    from scipy.sparse import csr_array

    if _together(y, answers):
        truth, said = y >= 0.5, labels_of(answers)
        tables = [csr_array(each.astype(np.float64)) for each in (truth & said, truth, said)]
    else:
        shares = by_class(answers)
        classes = shares.shape[-1]
        labels = y.reshape(len(y), -1).astype(np.int64)
        named = shares.argmax(axis=-1).reshape(len(y), -1)
        rows = np.repeat(np.arange(len(y)), labels.shape[1])

        def table(columns: npt.NDArray[np.int64], weight: npt.NDArray[Any]) -> Any:
            cells = (weight.astype(np.float64).reshape(-1), (rows, columns.reshape(-1)))
            return csr_array(cells, shape=(len(y), classes))  # what stands in one cell is added up

        everywhere = np.ones(labels.shape)
        tables = [table(labels, labels == named), table(labels, everywhere), table(named, everywhere)]

    def counts(weights: Floats) -> tuple[Floats, Floats, Floats]:
        right, truth, said = (np.asarray((each.T @ weights.T).T, np.float64) for each in tables)
        return right, truth, said

    return counts


def _ratio(above: Floats, below: Floats) -> Floats:
    """A quotient, NaN where there is nothing to divide by."""
    quotient: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return quotient


def _mean(values: Floats) -> Floats:
    """Over the last axis, without what is NaN; NaN where all is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64))


def balanced_accuracy(y: Labels, answers: Outputs) -> Figure:
    """Recall, meaned over the classes that are there."""
    counts = _counts(y, answers)

    def figure(weights: Floats) -> Floats:
        right, truth, _ = counts(weights)
        return _mean(_ratio(right, truth))

    return figure


def f1_macro(y: Labels, answers: Outputs) -> Figure:
    """F1 of each class that is there or answered, meaned."""
    counts = _counts(y, answers)

    def figure(weights: Floats) -> Floats:
        right, truth, said = counts(weights)
        return _mean(_ratio(2 * right, truth + said))

    return figure


def f1_micro(y: Labels, answers: Outputs) -> Figure:
    """F1 of all classes' counts together; with one class an example it is the accuracy."""
    counts = _counts(y, answers)

    def figure(weights: Floats) -> Floats:
        right, truth, said = (each.sum(axis=1) for each in counts(weights))
        return _ratio(2 * right, truth + said)

    return figure


def mean_iou(y: Labels, answers: Outputs) -> Figure:
    """Intersection over union of each class that is there or answered, over all examples together, meaned."""
    counts = _counts(y, answers)

    def figure(weights: Floats) -> Floats:
        right, truth, said = counts(weights)
        return _mean(_ratio(right, truth + said - right))

    return figure


def rmse(y: Labels, answers: Outputs) -> Figure:
    """Root of the mean squared error over all values."""
    squares = np.square(answers.astype(np.float64) - y).reshape(len(y), -1).mean(axis=1)
    return lambda weights: np.sqrt(weights @ squares / weights.sum(axis=1))


def roc_auc(y: Labels, answers: Outputs) -> Figure:
    """Area under the ROC curve: the chance that a positive stands above a negative, ties half (Hanley, McNeil 1982)."""
    return _ranked(y, answers, _area)


def average_precision(y: Labels, answers: Outputs) -> Figure:
    """Precision at each threshold, by the recall that is gained there; not interpolated."""
    return _ranked(y, answers, _precision)


def _ranked(y: Labels, answers: Outputs, of: Callable[[Floats, Floats], Floats]) -> Figure:
    """A figure of positives and negatives in the order of their shares, meaned over classes or labels.

    Of two classes it is the second one's.
    """
    shares: Outputs
    if _together(y, answers):
        shares, truth = label_shares(answers), y >= 0.5
    else:
        shares = class_shares(answers)
        truth = y[:, None] == np.arange(shares.shape[1])
        if shares.shape[1] == 2:
            shares, truth = shares[:, 1:], truth[:, 1:]
    orders = []
    for share, there in zip(shares.T, truth.T, strict=True):
        order = np.argsort(share, kind="stable")
        ranked = share[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # of those that are alike
        orders.append((order, starts, there[order]))

    def figure(weights: Floats) -> Floats:
        figures = []
        for order, starts, there in orders:
            ranked = weights[:, order]
            positives = np.add.reduceat(ranked * there, starts, axis=1)
            figures.append(of(positives, np.add.reduceat(ranked * ~there, starts, axis=1)))
        return _mean(np.stack(figures, axis=-1))

    return figure


def _area(positives: Floats, negatives: Floats) -> Floats:
    """Both `(resamples, thresholds)`, by shares that rise."""
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def _precision(positives: Floats, negatives: Floats) -> Floats:
    """Both `(resamples, thresholds)`, by shares that rise."""
    right = np.cumsum(positives[:, ::-1], axis=1)
    said = right + np.cumsum(negatives[:, ::-1], axis=1)
    precision = np.divide(right, said, out=np.zeros(right.shape), where=said > 0)
    return _ratio((positives[:, ::-1] * precision).sum(axis=1), positives.sum(axis=1))
