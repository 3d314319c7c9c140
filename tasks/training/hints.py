"""What a student learns from inside its teacher: layers of both that are to show the same, each in its own measure."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import ModelError
from tasks.keras_graph.rebuild import kind
from tasks.training.losses import TINY, Hint, Lesson, Objective, Teaching

if TYPE_CHECKING:
    import tensorflow as tf

# Distances among a batch's examples grow with their square, angles with their cube: so many examples are looked at.
RELATED = 64
SAME = 1e-12  # squared distance over squared norms below which two examples show the same: float32 has no digits left
WRAPPERS = frozenset({"PruneLowMagnitude", "QuantizeWrapperV2"})  # what may be around the layer that is meant

Maps = Sequence["tf.Variable | None"]


def hinted(
    objective: Objective, teacher: "tf.keras.Model", teaching: Teaching, *, lost: Callable[[str], None] | None = None
) -> Objective:
    """An objective plus the weighted distance between layers of the student and of the teacher.

    The teacher is asked at each step, as far as the last of its layers: what it shows inside is too large to keep.

    Args:
        objective: what else is minimised.
        teacher: the model that teaches.
        teaching: which layers, by what distance, and its weight.
        lost: called with a note where the student has no such layer; the objective is then left as it is. Without it
            that is an error.

    Raises:
        ModelError: when the objective gets its model: no such layer, or layers that do not correspond.

    """
    import tensorflow as tf

    if teaching.hint == "none":
        return objective
    distance = HINTS[teaching.hint]

    def lesson(student: "tf.keras.Model") -> Lesson:
        teacher_features = [_layer(teacher, name, "distill.teacher_layer").output for name in teaching.teacher_layers]
        try:
            own = [_layer(student, name, "distill.student_layer").output for name in teaching.student_layers]
        except ModelError as error:
            if lost is None:
                raise
            lost(f"the teacher goes on with its predictions only, without {teaching.hint}: {error}")
            return objective(student)
        for name, ours, theirs in zip(teaching.student_layers, own, teacher_features, strict=True):
            _check(teaching.hint, name, ours, theirs)
        maps = [
            _map(ours, theirs) if teaching.hint == "features" else None
            for ours, theirs in zip(own, teacher_features, strict=True)
        ]
        seen = tf.keras.Model(teacher.inputs, teacher_features)
        both = tf.keras.Model(student.inputs, [*student.outputs, *own])
        outputs: list[tf.Tensor] = []
        count = len(student.outputs)

        def forward(x: Any, training: bool) -> Any:  # one pass for predictions and layers
            predictions = both(x, training=training)
            outputs[:] = [tf.cast(each, tf.float32) for each in predictions[count:]]  # of mixed precision
            return predictions[0] if count == 1 else predictions[:count]

        base = objective(forward)

        def loss(
            x: Any, y: Any, soft_targets: Any, training: bool, weights: "tf.Tensor | None" = None
        ) -> "tuple[tf.Tensor, Any]":
            total, predictions = base.loss(x, y, soft_targets, training, weights)
            targets = tf.nest.flatten(seen(x, training=False))
            for ours, theirs, mapping in zip(outputs, targets, maps, strict=True):
                mapped = tf.tensordot(ours, mapping, 1) if mapping is not None else ours
                total += teaching.weight * distance(mapped, tf.stop_gradient(theirs))
            return total, predictions

        return Lesson(loss, (*base.weights, *(each for each in maps if each is not None)), base.kept)

    return lesson


def feature_distance(student: "tf.Tensor", teacher: "tf.Tensor") -> "tf.Tensor":
    """The mean squared error over the mean square of the teacher's features `(batch, …, channels)` (FitNets).

    So that a weight means the same for any pair of layers. Where the channels differ, a linear map from the student's
    to the teacher's is learned beside the student: 1x1 for images, and not kept. Unlike in Romero et al. (2015), both
    losses are minimised together, not in turn.
    """
    import tensorflow as tf

    return tf.reduce_mean(tf.square(student - teacher)) / (tf.reduce_mean(tf.square(teacher)) + TINY)


def attention_distance(student: "tf.Tensor", teacher: "tf.Tensor") -> "tf.Tensor":
    """The mean squared distance between the attention maps of features `(batch, …, channels)`: from 0 to 2.

    A map is the mean of squares over the channels, flattened, at length 1 (Zagoruyko and Komodakis, 2017): neither the
    size of the features nor the number of channels counts.
    """
    import tensorflow as tf

    def attention(features: "tf.Tensor") -> "tf.Tensor":
        energy = tf.reduce_mean(tf.square(features), axis=-1)
        return tf.math.l2_normalize(tf.reshape(energy, (tf.shape(energy)[0], -1)), axis=-1, epsilon=TINY**2)

    return tf.reduce_mean(tf.reduce_sum(tf.square(attention(student) - attention(teacher)), axis=-1))


def relational_distance(student: "tf.Tensor", teacher: "tf.Tensor") -> "tf.Tensor":
    """How differently the examples of a batch lie to each other, features `(batch, …)` of any two sizes (Park, 2019).

    The Huber loss of the distances between two examples, in units of their mean, plus twice that of the cosines of the
    angles between three (Park et al. weigh them 1 to 2). At most the first 64 examples of a batch are looked at.
    """
    import tensorflow as tf

    def relations(features: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        points = features[:RELATED]
        points = tf.cast(tf.reshape(points, (tf.shape(points)[0], -1)), tf.float64)  # as like values cancel below
        points -= tf.reduce_mean(points, axis=0)
        # Of the inner products alone, (examples, examples): the ways from each example to each other one would take as
        # many times the memory of the features as there are examples.
        gram = tf.matmul(points, points, transpose_b=True)
        norms = tf.linalg.diag_part(gram)
        both = norms[:, None] + norms[None, :]
        squares = both - 2 * gram
        apart = squares > SAME * both
        lengths = tf.where(apart, tf.sqrt(tf.where(apart, squares, 1.0)), 0.0)  # the root has no slope at 0
        pairs = tf.reduce_sum(tf.cast(apart, tf.float64))
        # (from, to, to): of the ways from one example to two others
        products = gram[None, :, :] - gram[:, :, None] - gram[:, None, :] + norms[:, None, None]
        near = tf.where(apart, 1 / tf.where(apart, lengths, 1.0), 0.0)
        angles = products * near[:, :, None] * near[:, None, :]
        lengths /= tf.math.divide_no_nan(tf.reduce_sum(lengths), pairs) + TINY
        return tf.cast(lengths, tf.float32), tf.cast(angles, tf.float32)

    def huber(one: "tf.Tensor", other: "tf.Tensor") -> "tf.Tensor":
        error = tf.abs(one - other)
        return tf.reduce_mean(tf.where(error < 1, 0.5 * tf.square(error), error - 0.5))

    (lengths, angles), (teacher_lengths, teacher_angles) = relations(student), relations(teacher)
    return huber(lengths, teacher_lengths) + 2 * huber(angles, teacher_angles)


HINTS: dict[Hint, Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]] = {
    "features": feature_distance,
    "attention": attention_distance,
    "relational": relational_distance,
}


def _check(hint: Hint, name: str, own: "tf.Tensor", teacher: "tf.Tensor") -> None:
    """Refuses layers whose positions do not correspond; relations have none."""
    ours, theirs = tuple(own.shape[1:]), tuple(teacher.shape[1:])
    if hint == "attention" and len(ours) < 2:
        raise ModelError("distill.student_layer", name, f"gives {ours}: attention needs positions, as images have them")
    if hint != "relational" and ours[:-1] != theirs[:-1]:
        raise ModelError(
            "distill.student_layer",
            name,
            f"gives {ours}, the teacher's layer {theirs}; name layers that agree in all but the last axis",
        )


def _map(own: "tf.Tensor", teacher: "tf.Tensor") -> "tf.Variable | None":
    """A linear map from the student's channels to the teacher's, where they differ."""
    import tensorflow as tf

    if own.shape[-1] == teacher.shape[-1]:
        return None
    start = tf.keras.initializers.GlorotUniform(seed=0)((own.shape[-1], teacher.shape[-1]))
    return tf.Variable(start, name="feature_map")


def _layer(model: "tf.keras.Model", name: str, field: str) -> "tf.keras.layers.Layer":
    named = {layer.layer.name: layer for layer in model.layers if kind(layer) in WRAPPERS}
    named |= {layer.name: layer for layer in model.layers}
    if name not in named:
        names = ", ".join(layer.name for layer in model.layers)
        raise ModelError(field, name, f"{model.name} has no such layer; it has: {names}")
    return named[name]
