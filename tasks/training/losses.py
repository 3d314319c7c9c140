"""What a training makes small: the labels' loss, the teacher's, or both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.problem import Problem
from tasks.data import Split
from tasks.data.heads import Head
from tasks.data.statistics import Variance

if TYPE_CHECKING:
    import tensorflow as tf

Hint = Literal["none", "features", "attention", "relational"]
Forward = Callable[..., "tf.Tensor"]  # a model, or what stands for it: (inputs, training=…) -> predictions

# (inputs (batch, …), targets, soft targets: the teacher's answers if they are kept, training, weights (batch,) or none)
# -> (loss, a scalar meaned over the batch; predictions (batch, …)); of several inputs or outputs each is a tuple
BatchLoss = Callable[..., tuple["tf.Tensor", Any]]

# (split, view) -> what the teacher answers to its examples, float32 (examples, …); nothing if it must be asked
Kept = Callable[[Split, int], np.ndarray | None]


# (targets, predictions, of several outputs tuples; weights (batch,), or none where all count alike) -> a scalar
LabelLoss = Callable[..., "tf.Tensor"]


@dataclass(frozen=True)
class Lesson:
    """An objective that knows its model: the loss, what is trained beside the model, and the answers kept for it."""

    loss: BatchLoss
    weights: tuple["tf.Variable", ...] = ()
    kept: Kept | None = None


Objective = Callable[[Any], Lesson]  # a training gives it the Keras model that it trains

TINY = 1e-7  # the smallest probability whose logarithm is taken: float32 keeps about seven digits beside 1


class Teaching(BaseModel, frozen=True, extra="forbid"):
    """How a teacher's predictions count beside the labels."""

    temperature: float = Field(
        4.0,
        ge=1,
        le=100,
        description="Softens the teacher's probabilities: higher shows the student more of how it confuses classes.",
        json_schema_extra={"position": 0},
    )
    mix: float = Field(
        0.7,
        ge=0,
        le=1,
        description="The teacher's share of the loss: higher trusts it more and the labels less; 0 leaves it out.",
        json_schema_extra={"position": 1},
    )
    hint: Hint = Field(
        "none",
        description="What the student also learns from inside the teacher: nothing, layers' outputs, where they look, "
        "or how examples lie to each other.",
        json_schema_extra={"position": 2},
    )
    teacher_layers: tuple[str, ...] = Field(
        (), description="For a hint: the teacher's layers.", json_schema_extra={"position": 3}
    )
    student_layers: tuple[str, ...] = Field(
        (), description="For a hint: the student's layers, in the same order.", json_schema_extra={"position": 4}
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1_000,
        description="For a hint: its weight beside the other loss; higher imitates more closely.",
        json_schema_extra={"position": 5},
    )


def one_each(values: Any) -> tuple[Any, ...]:
    """What each output has, in their order: of one output it comes by itself."""
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def supervised(by_labels: LabelLoss) -> Objective:
    """The labels' loss alone."""

    def lesson(model: Forward) -> Lesson:
        def loss(
            x: Any, y: Any, _soft_targets: Any, training: bool, weights: "tf.Tensor | None" = None
        ) -> tuple["tf.Tensor", Any]:
            predictions = model(x, training=training)
            return by_labels(y, predictions, weights), predictions

        return Lesson(loss)

    return lesson


def plain(problem: Problem, variance: Variance = 1.0) -> LabelLoss:
    """Cross-entropy, or the mean squared error in units of the targets' variance, each of its own."""
    by_labels = LOSSES[problem]
    return lambda y, predictions, weights=None: by_labels(y, predictions, variance, weights)


def softened(
    heads: Sequence[Head],
    teacher: "tf.keras.Model",
    teaching: Teaching,
    by_labels: LabelLoss,
    kept: Kept | None = None,
) -> Objective:
    """The labels' loss mixed with the distance to what the teacher answers to the same, possibly augmented, inputs.

    For classes, mix * T² * KL(teacher softened by T || student softened by T) + (1 - mix) * cross-entropy (Hinton,
    Vinyals and Dean, 2015); T² keeps the gradients' size as the temperature changes. Else the squared distance to the
    teacher's values takes the place of the divergence; of labels that may stand together, the mean of each one's own
    divergence does, softened alike. Of several outputs the distances are added up by their weights. The teacher is
    asked where its answers are not at hand.
    """
    import tensorflow as tf

    if not teaching.mix:
        return supervised(by_labels)

    def distance(
        head: Head, soft_targets: "tf.Tensor", predictions: "tf.Tensor", weights: "tf.Tensor | None"
    ) -> "tf.Tensor":
        if head.problem in DIVERGENCES:
            return head.weight * DIVERGENCES[head.problem](soft_targets, predictions, teaching.temperature, weights)
        return head.weight * LOSSES[head.problem](soft_targets, predictions, head.variance, weights)

    def lesson(model: Forward) -> Lesson:
        def loss(
            x: Any, y: Any, soft_targets: Any, training: bool, weights: "tf.Tensor | None" = None
        ) -> tuple["tf.Tensor", Any]:
            if soft_targets is None:
                answers = all_targets(heads, teacher(x, training=False))
                soft_targets = tf.nest.map_structure(tf.stop_gradient, answers)
            predictions = model(x, training=training)
            of_heads = zip(heads, one_each(soft_targets), one_each(predictions), strict=True)
            distances = tf.add_n([distance(*each, weights) for each in of_heads])
            return teaching.mix * distances + (1 - teaching.mix) * by_labels(y, predictions, weights), predictions

        return Lesson(loss, kept=kept)

    return lesson


def distillation_targets(problem: Problem, predictions: "tf.Tensor") -> "tf.Tensor":
    """Predictions as a student learns them: what no confidence rounds away, of classes the log-probabilities."""
    if problem == "multilabel":
        return label_logits(predictions)
    return log_probabilities(predictions) if problem == "classification" else predictions


def all_targets(heads: Sequence[Head], predictions: Any) -> Any:
    """The same of every output: one by itself, or a tuple."""
    each = zip(heads, one_each(predictions), strict=True)
    targets = tuple(distillation_targets(head.problem, given) for head, given in each)
    return targets if isinstance(predictions, tuple | list) else targets[0]


def mean_scores(heads: Sequence[Head], y: Any, predictions: Any) -> "tf.Tensor":
    """How good each prediction is `(batch,)`: of several outputs the mean of their scores."""
    import tensorflow as tf

    each = zip(heads, one_each(y), one_each(predictions), strict=True)
    return tf.add_n([scores(head.problem, right, given, head.variance) for head, right, given in each]) / len(heads)


def scores(problem: Problem, y: "tf.Tensor", predictions: "tf.Tensor", variance: Variance) -> "tf.Tensor":
    """How good each prediction is `(batch,)`: the share of right classes or labels, else 1 - squared error / variance.

    Where each of several targets has its own variance, the mean is taken in these units.
    """
    import tensorflow as tf

    if problem in ("classification", "multilabel"):
        if problem == "multilabel":
            right = (predictions >= 0.5) == (y >= 0.5)
        else:
            labels = tf.argmax(y, axis=-1) if len(y.shape) == len(predictions.shape) else y  # of mixed ones the first
            right = tf.argmax(predictions, axis=-1, output_type=tf.int64) == tf.cast(labels, tf.int64)
        return tf.reduce_mean(tf.cast(right, tf.float32), axis=list(range(1, len(right.shape))))
    squares, unit = _squares(y, predictions, variance)
    return 1 - tf.reduce_mean(squares, axis=list(range(1, len(predictions.shape)))) / unit


def meaned(values: "tf.Tensor", weights: "tf.Tensor | None") -> "tf.Tensor":
    """The mean of values `(batch, …)`; with weights `(batch,)` each example's mean counts as many times."""
    import tensorflow as tf

    if weights is None:
        return tf.reduce_mean(values)
    return tf.reduce_mean(weights * tf.reduce_mean(values, axis=list(range(1, len(values.shape)))))


def cross_entropy(
    y: "tf.Tensor", probabilities: "tf.Tensor", _variance: Variance = 1.0, weights: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """Mean -log p of the labels `(batch, …)` under probabilities `(batch, …, classes)`."""
    import tensorflow as tf

    each = log_probabilities(probabilities)
    return -meaned(tf.gather(each, tf.cast(y, tf.int32), axis=-1, batch_dims=len(each.shape) - 1), weights)


def label_cross_entropy(
    y: "tf.Tensor", shares: "tf.Tensor", _variance: Variance = 1.0, weights: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """Mean binary cross-entropy of labels that may stand together, both `(batch, labels)`."""
    import tensorflow as tf

    labels, logits = tf.cast(y, tf.float32), label_logits(shares)
    return meaned(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), weights)


def squared_error(
    y: "tf.Tensor", predictions: "tf.Tensor", variance: Variance, weights: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """Mean squared error in units of the variance, each target's own: 1 is what predicting the mean would give."""
    squares, unit = _squares(y, predictions, variance)
    return meaned(squares, weights) / unit


def _squares(y: "tf.Tensor", predictions: "tf.Tensor", variance: Variance) -> tuple["tf.Tensor", float]:
    """Squared errors, and the variance that their mean is a multiple of: in these units already if each has its own."""
    import tensorflow as tf

    squares = tf.square(tf.cast(y, tf.float32) - predictions)
    if isinstance(variance, float):
        return squares, variance
    return squares / tf.constant(variance, tf.float32), 1.0


LOSSES: dict[Problem, Callable[..., Any]] = {
    "classification": cross_entropy,
    "multilabel": label_cross_entropy,
    "regression": squared_error,
    "reconstruction": squared_error,
}


def softened_divergence(
    soft_targets: "tf.Tensor", student: "tf.Tensor", temperature: float, weights: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """T² * mean KL between a teacher's log-probabilities and a student's probabilities, softened by a temperature T.

    Both `(batch, classes)`. Softmax turns log-probabilities into the same softened probabilities as the logits would.
    """
    import tensorflow as tf

    target = tf.nn.log_softmax(soft_targets / temperature)
    actual = tf.nn.log_softmax(log_probabilities(student) / temperature)
    return temperature**2 * meaned(tf.reduce_sum(tf.exp(target) * (target - actual), axis=-1), weights)


def softened_label_divergence(
    teacher_logits: "tf.Tensor", student: "tf.Tensor", temperature: float, weights: "tf.Tensor | None" = None
) -> "tf.Tensor":
    """T² * the mean over labels of KL between a teacher's share and a student's, both softened by a temperature T.

    Args:
        teacher_logits: `(batch, labels)`.
        student: shares `(batch, labels)`.
        temperature: T.
        weights: what each example counts `(batch,)`; none where all count alike.

    """
    import tensorflow as tf

    target, actual = teacher_logits / temperature, label_logits(student) / temperature
    share = tf.sigmoid(target)
    apart = share * (tf.math.log_sigmoid(target) - tf.math.log_sigmoid(actual))
    apart += (1 - share) * (tf.math.log_sigmoid(-target) - tf.math.log_sigmoid(-actual))
    return temperature**2 * meaned(apart, weights)


DIVERGENCES: dict[Problem, Callable[..., Any]] = {
    "classification": softened_divergence,
    "multilabel": softened_label_divergence,
}


def label_logits(shares: "tf.Tensor") -> "tf.Tensor":
    """What sigmoids made shares of, from the graph where it still has that: a share that became 0 has no gradient."""
    import tensorflow as tf

    if not tf.executing_eagerly() and shares.op.type == "Sigmoid":
        return shares.op.inputs[0]
    within = tf.clip_by_value(shares, TINY, 1 - TINY)
    return tf.math.log(within) - tf.math.log1p(-within)


def log_probabilities(probabilities: "tf.Tensor") -> "tf.Tensor":
    """Their logarithm, from the logits where the graph still has them: a probability that became 0 has no gradient."""
    import tensorflow as tf

    if not tf.executing_eagerly():
        made = probabilities.op
        if made.type == "Softmax":
            return tf.nn.log_softmax(made.inputs[0])
        if made.type == "ConcatV2" and made.inputs[1].op.type == "Sigmoid":  # as `probabilities_of` has it
            logits = made.inputs[1].op.inputs[0]
            return tf.concat([tf.math.log_sigmoid(-logits), tf.math.log_sigmoid(logits)], axis=-1)
    return tf.math.log(tf.maximum(probabilities, TINY))
