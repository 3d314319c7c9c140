"""Losses of classes and labels in which mistakes cost what `data.mistakes` says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data import Dataset
from tasks.training.losses import LOSSES, label_logits, log_probabilities

if TYPE_CHECKING:
    import tensorflow as tf

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Costs:
    """What a mistake costs.

    there, not_there: by class the weight of an example of it; of labels also that of one without it. Their mean over
        the training examples is 1, so that learning rates stay what they are.
    smoothing, focal: as `MistakesConfig` has them.
    """

    there: Weights
    not_there: Weights
    smoothing: float
    focal: float


def costs_of(data: Dataset) -> Costs:
    """What mistakes cost with these data."""
    config, targets, classes = data.config.mistakes, data.targets["train"], len(data.classes)
    several = data.config.problem == "multilabel"
    there = targets.mean(axis=0) if several else np.bincount(targets.reshape(-1), minlength=classes) / targets.size
    asked = np.asarray(config.weights or np.ones(classes), np.float64)
    if several:
        one, other = (1 / (2 * there), 1 / (2 * (1 - there))) if config.balanced else (np.ones(classes),) * 2
        scale = asked / asked.mean()
        return Costs(_numbers(scale * one), _numbers(scale * other), config.smoothing, config.focal)
    weights = asked * (1 / (classes * np.maximum(there, 1 / targets.size)) if config.balanced else 1)
    return Costs(_numbers(weights / (weights * there).sum()), (), config.smoothing, config.focal)


def _numbers(values: np.ndarray) -> Weights:
    return tuple(float(value) for value in values)


def label_loss(data: Dataset) -> Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]:
    """The loss `(targets, predictions) -> scalar` of a data set's labels or values, as its config asks.

    Targets are as `Dataset.batches` gives them, mixed ones `(batch, classes)` among them; predictions as `as_learned`
    gives them.
    """
    problem, variance = data.config.problem, data.variance
    if not (data.config.mistakes.any or data.config.mixes):
        by_labels = LOSSES[problem]
        return lambda y, predictions: by_labels(y, predictions, variance)
    costs = costs_of(data)
    loss = of_labels if problem == "multilabel" else of_classes
    return lambda y, predictions: loss(y, predictions, costs)


def of_classes(y: "tf.Tensor", probabilities: "tf.Tensor", costs: Costs) -> "tf.Tensor":
    """Mean over examples and their places of -Σ target · (1 - p)^focal · log p, each by its class's weight.

    Args:
        y: labels `(batch, …)`, or shares of classes `(batch, …, classes)`.
        probabilities: `(batch, …, classes)`.
        costs: what mistakes cost.

    """
    import tensorflow as tf

    logs = log_probabilities(probabilities)
    classes = len(costs.there)
    shares = _float(y) if len(y.shape) == len(logs.shape) else tf.one_hot(tf.cast(y, tf.int32), classes)
    weights = tf.reduce_sum(shares * tf.constant(costs.there, tf.float32), axis=-1)
    targets = (1 - costs.smoothing) * shares + costs.smoothing / classes
    terms = targets * logs
    if costs.focal:
        terms *= tf.maximum(1 - tf.exp(logs), 0) ** costs.focal
    return -tf.reduce_mean(weights * tf.reduce_sum(terms, axis=-1))


def of_labels(y: "tf.Tensor", shares: "tf.Tensor", costs: Costs) -> "tf.Tensor":
    """The same of labels that may stand together, both `(batch, labels)`: the mean over labels of each one's own."""
    import tensorflow as tf

    logits, y = label_logits(shares), _float(y)
    weights = y * tf.constant(costs.there, tf.float32) + (1 - y) * tf.constant(costs.not_there, tf.float32)
    targets = (1 - costs.smoothing) * y + costs.smoothing / 2
    there, not_there = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    if costs.focal:
        there *= tf.sigmoid(-logits) ** costs.focal
        not_there *= tf.sigmoid(logits) ** costs.focal
    return -tf.reduce_mean(weights * (targets * there + (1 - targets) * not_there))


def _float(values: Any) -> "tf.Tensor":
    import tensorflow as tf

    return tf.cast(values, tf.float32)
