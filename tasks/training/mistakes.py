"""Losses of classes and labels in which mistakes cost what `data.mistakes` says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data import Dataset
from tasks.data.config import DataConfig
from tasks.data.heads import Head
from tasks.data.labels import own_function_of
from tasks.data.mistakes import MistakesConfig
from tasks.training.losses import LabelLoss, label_logits, log_probabilities, meaned, one_each, plain

if TYPE_CHECKING:
    import tensorflow as tf

Weights = tuple[float, ...]
TRIED = 4  # targets that a loss of the user's own is tried on


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


def costs_of(config: MistakesConfig, head: Head, targets: np.ndarray) -> Costs:
    """What mistakes of one output cost, where the training examples' targets are these."""
    classes, several = len(head.classes), head.problem == "multilabel"
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


def label_loss(data: Dataset) -> LabelLoss:
    """The loss `(targets, predictions, weights) -> scalar` of a data set's labels or values, as its config asks.

    Of several outputs it is the sum of each one's own, by their weights. Targets are as `Dataset.batches` gives them,
    mixed ones `(batch, classes)` among them; predictions as `as_learned` gives them.
    """
    import tensorflow as tf

    losses = [_of_head(data, head, data.config.of_heads[head.name]) for head in data.heads]
    if len(losses) == 1:
        return losses[0]

    def loss(y: Any, predictions: Any, weights: "tf.Tensor | None" = None) -> "tf.Tensor":
        each = zip(data.heads, losses, one_each(y), one_each(predictions), strict=True)
        return tf.add_n([head.weight * of_head(*values, weights) for head, of_head, *values in each])

    return loss


def _of_head(data: Dataset, head: Head, config: DataConfig) -> LabelLoss:
    if config.loss:
        some = head.of(data.targets["train"][:TRIED])
        return own_loss(config.loss, head, some if some.size else np.zeros((len(some), *head.output_shape), np.float32))
    if not head.classes or not (config.mistakes.any or config.mixes):
        return plain(head.problem, head.variance)
    costs = costs_of(config.mistakes, head, head.of(data.targets["train"]))
    loss = of_labels if head.problem == "multilabel" else of_classes
    return lambda y, predictions, weights=None: loss(y, predictions, costs, weights)


def own_loss(name: str, head: Head, y: "tf.Tensor") -> LabelLoss:
    """A loss of the user's own, whose costs of examples are meaned by what these count.

    Args:
        name: the function's, package.module:function.
        head: the output whose answers it is given.
        y: a few targets, on which it is tried.

    Raises:
        DataError: there is no such function, it raises, or gives no costs `(batch, …)`.

    """
    import tensorflow as tf

    function = own_function_of("data.loss", name)
    answers = tf.fill((len(y), *head.output_shape), 1 / head.output_shape[-1] if head.classes else 0.0)
    try:
        costs = tf.convert_to_tensor(function(tf.convert_to_tensor(y), answers))
    except Exception as error:  # the function is the user's: it may raise anything
        reason = " ".join(str(error).split())[:300]
        raise DataError("data.loss", name, f"the function raised {type(error).__name__}: {reason}") from error
    if not costs.dtype.is_floating or costs.shape[:1] != (len(y),):
        gives = f"{costs.dtype.name} {tuple(costs.shape)} for {len(y)} examples"
        raise DataError("data.loss", name, f"gives {gives}: give what each example costs, floats (examples, …)")
    return lambda y, predictions, weights=None: meaned(tf.cast(function(y, predictions), tf.float32), weights)


def of_classes(
    y: "tf.Tensor", probabilities: "tf.Tensor", costs: Costs, examples: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """Mean over examples and their places of -Σ target · (1 - p)^focal · log p, each by its class's weight.

    Args:
        y: labels `(batch, …)`, or shares of classes `(batch, …, classes)`.
        probabilities: `(batch, …, classes)`.
        costs: what mistakes cost.
        examples: what each example counts `(batch,)`; none where all count alike.

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
    return -meaned(weights * tf.reduce_sum(terms, axis=-1), examples)


def of_labels(y: "tf.Tensor", shares: "tf.Tensor", costs: Costs, examples: "tf.Tensor | None" = None) -> "tf.Tensor":
    """The same of labels that may stand together, both `(batch, labels)`: the mean over labels of each one's own."""
    import tensorflow as tf

    logits, y = label_logits(shares), _float(y)
    weights = y * tf.constant(costs.there, tf.float32) + (1 - y) * tf.constant(costs.not_there, tf.float32)
    targets = (1 - costs.smoothing) * y + costs.smoothing / 2
    there, not_there = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    if costs.focal:
        there *= tf.sigmoid(-logits) ** costs.focal
        not_there *= tf.sigmoid(logits) ** costs.focal
    return -meaned(weights * (targets * there + (1 - targets) * not_there), examples)


def _float(values: Any) -> "tf.Tensor":
    import tensorflow as tf

    return tf.cast(values, tf.float32)
