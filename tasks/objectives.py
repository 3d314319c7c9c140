"""What a training makes small: the labels' loss, the teacher's, or both."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from tasks.errors import ModelError
from tasks.problem import Problem

if TYPE_CHECKING:
    import tensorflow as tf

# (model, inputs (batch, …), targets, training) -> (loss, a scalar meaned over the batch; predictions (batch, …))
Objective = Callable[["tf.keras.Model", "tf.Tensor", "tf.Tensor", bool], tuple["tf.Tensor", "tf.Tensor"]]

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


def supervised(problem: Problem, variance: float) -> Objective:
    """The labels' loss: cross-entropy, or the mean squared error in units of the targets' variance."""
    loss = LOSSES[problem]

    def objective(
        model: "tf.keras.Model", x: "tf.Tensor", y: "tf.Tensor", training: bool
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        predictions = model(x, training=training)
        return loss(y, predictions, variance), predictions

    return objective


def softened(problem: Problem, variance: float, teacher: "tf.keras.Model", teaching: Teaching) -> Objective:
    """The labels' loss mixed with the distance to what the teacher says of the same, possibly augmented, inputs.

    For classes, mix * T² * KL(teacher softened by T || student softened by T) + (1 - mix) * cross-entropy (Hinton,
    Vinyals and Dean, 2015); T² keeps the gradients' size as the temperature changes. Else the squared distance to the
    teacher's values takes the place of the divergence.
    """
    import tensorflow as tf

    if not teaching.mix:
        return supervised(problem, variance)
    loss = LOSSES[problem]

    def objective(
        model: "tf.keras.Model", x: "tf.Tensor", y: "tf.Tensor", training: bool
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        taught = tf.stop_gradient(teacher(x, training=False))
        predictions = model(x, training=training)
        if problem == "classification":
            distance = softened_divergence(taught, predictions, teaching.temperature)
        else:
            distance = loss(taught, predictions, variance)
        return teaching.mix * distance + (1 - teaching.mix) * loss(y, predictions, variance), predictions

    return objective


def features(
    student: "tf.keras.Model",
    teacher: "tf.keras.Model",
    student_layer: str,
    teacher_layer: str,
    weight: float,
    objective: Objective,
) -> tuple[Objective, list["tf.Variable"]]:
    """An objective plus `weight` times the distance between two layers' outputs (FitNets, Romero et al., 2015).

    The distance is the mean squared error over the mean square of the teacher's features, so that a weight means the
    same for any pair of layers. Where the channels differ, a linear map from the student's to the teacher's is learned
    beside the student: 1x1 for images, and not kept. Unlike FitNets, both losses are minimised together, not in turn.

    Args:
        student: the model that is to be trained; the objective must be called with it.
        teacher: the model that teaches.
        student_layer: the name of the layer whose output is to be like the teacher's.
        teacher_layer: the name of the teacher's layer.
        weight: of the distance beside the objective's loss.
        objective: what else is minimised.

    Returns:
        The objective, and the variables of the linear map, which must be trained with the student's.

    Raises:
        ModelError: no such layer, or positions that do not correspond.

    """
    import tensorflow as tf

    wanted = _layer(teacher, teacher_layer, "distill.teacher_layer").output
    own = _layer(student, student_layer, "distill.student_layer").output
    if own.shape[1:-1] != wanted.shape[1:-1]:
        raise ModelError(
            "distill.student_layer",
            student_layer,
            f"gives {tuple(own.shape[1:])}, the teacher's {teacher_layer} {tuple(wanted.shape[1:])}; name layers that "
            "agree in all but the last axis",
        )
    seen = tf.keras.Model(teacher.inputs, [wanted])
    both = tf.keras.Model(student.inputs, [*student.outputs, own])
    variables: list[tf.Variable] = []
    if own.shape[-1] != wanted.shape[-1]:
        start = tf.keras.initializers.GlorotUniform(seed=0)((own.shape[-1], wanted.shape[-1]))
        variables.append(tf.Variable(start, name="feature_map"))

    def with_features(
        model: "tf.keras.Model", x: "tf.Tensor", y: "tf.Tensor", training: bool
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        assert model is student, "the pair of layers was looked up in another model"
        found: list[tf.Tensor] = []

        def forward(x: "tf.Tensor", training: bool) -> "tf.Tensor":  # one pass for predictions and features
            predictions, feature = both(x, training=training)
            found.append(feature)
            return predictions

        loss, predictions = objective(forward, x, y, training)
        target = tf.stop_gradient(seen(x, training=False))
        mapped = tf.tensordot(found[0], variables[0], 1) if variables else found[0]
        distance = tf.reduce_mean(tf.square(mapped - target)) / (tf.reduce_mean(tf.square(target)) + TINY)
        return loss + weight * distance, predictions

    return with_features, variables


def scores(problem: Problem, y: "tf.Tensor", predictions: "tf.Tensor", variance: float) -> "tf.Tensor":
    """How good each prediction is `(batch,)`: 1 or 0 for a class, else 1 - mean squared error / variance."""
    import tensorflow as tf

    if problem == "classification":
        return tf.cast(tf.argmax(predictions, axis=-1, output_type=tf.int64) == tf.cast(y, tf.int64), tf.float32)
    squares = tf.square(tf.cast(y, tf.float32) - predictions)
    return 1 - tf.reduce_mean(squares, axis=list(range(1, len(predictions.shape)))) / variance


def cross_entropy(y: "tf.Tensor", probabilities: "tf.Tensor", _variance: float = 1.0) -> "tf.Tensor":
    """Mean -log p of the labels `(batch,)` under probabilities `(batch, classes)`."""
    import tensorflow as tf

    return -tf.reduce_mean(tf.gather(log_probabilities(probabilities), tf.cast(y, tf.int32), axis=1, batch_dims=1))


def squared_error(y: "tf.Tensor", predictions: "tf.Tensor", variance: float) -> "tf.Tensor":
    """Mean squared error in units of the variance: 1 is what predicting the mean would give."""
    import tensorflow as tf

    return tf.reduce_mean(tf.square(tf.cast(y, tf.float32) - predictions)) / variance


LOSSES: dict[Problem, Callable[[Any, Any, float], Any]] = {
    "classification": cross_entropy,
    "regression": squared_error,
    "reconstruction": squared_error,
}


def softened_divergence(teacher: "tf.Tensor", student: "tf.Tensor", temperature: float) -> "tf.Tensor":
    """T² * mean KL between probabilities `(batch, classes)` that were both softened by a temperature T.

    Works on log-probabilities, which softmax turns into the same softened probabilities as the logits would.
    """
    import tensorflow as tf

    taught = tf.nn.log_softmax(log_probabilities(teacher) / temperature)
    said = tf.nn.log_softmax(log_probabilities(student) / temperature)
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(taught) * (taught - said), axis=-1))


def log_probabilities(probabilities: "tf.Tensor") -> "tf.Tensor":
    """Their logarithm, from the logits where the graph still has them: a probability that became 0 has no gradient."""
    import tensorflow as tf

    if not tf.executing_eagerly() and probabilities.op.type == "Softmax":
        return tf.nn.log_softmax(probabilities.op.inputs[0])
    return tf.math.log(tf.maximum(probabilities, TINY))


def _layer(model: "tf.keras.Model", name: str, field: str) -> "tf.keras.layers.Layer":
    names: Sequence[str] = [layer.name for layer in model.layers]
    if name not in names:
        raise ModelError(field, name, f"{model.name} has no such layer; it has: {', '.join(names)}")
    return model.get_layer(name)
