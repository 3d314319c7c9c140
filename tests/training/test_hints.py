"""What layers show, compared: against NumPy, and by what must not change it."""

import numpy as np
import pytest

from tasks.contract.errors import ModelError
from tasks.training.hints import RELATED, attention_distance, feature_distance, hinted, relational_distance
from tasks.training.losses import Teaching, plain, supervised

DRAWS = np.random.default_rng(3)
IMAGES = DRAWS.normal(size=(5, 4, 3, 6)).astype(np.float32)
OTHERS = DRAWS.normal(size=(5, 4, 3, 6)).astype(np.float32)
X = DRAWS.normal(size=(6, 2)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])
PLAIN = supervised(plain("classification", 1.0))


def tiny(units=4, name="m"):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(units)
    i = tf.keras.Input((2,), name="input")
    hidden = tf.keras.layers.Dense(units, activation="relu", name="hidden")(i)
    logits = tf.keras.layers.Dense(3, name="logits")(hidden)
    return tf.keras.Model(i, tf.keras.layers.Softmax(name="probabilities")(logits), name=name)


def teaching(hint="features", layer="hidden", weight=1.0):
    return Teaching(hint=hint, teacher_layers=(layer,), student_layers=("hidden",), weight=weight)


def test_features_are_compared_in_units_of_the_teachers():
    expected = np.mean((IMAGES - OTHERS) ** 2) / np.mean(OTHERS**2)
    assert float(feature_distance(IMAGES, OTHERS)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_distance(IMAGES * 7, OTHERS * 7)) == pytest.approx(expected, rel=1e-5)


def test_attention_is_the_closed_form():
    maps = []
    for features in (IMAGES, OTHERS):
        flat = (features.astype(np.float64) ** 2).mean(axis=-1).reshape(5, -1)
        maps.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    expected = ((maps[0] - maps[1]) ** 2).sum(axis=1).mean()
    assert expected > 0.05
    assert float(attention_distance(IMAGES, OTHERS)) == pytest.approx(expected, rel=1e-5)


def test_attention_sees_neither_size_nor_channels_but_places():
    wider = np.concatenate([IMAGES, IMAGES, -IMAGES], axis=-1)
    assert float(attention_distance(IMAGES, 30 * wider)) == pytest.approx(0, abs=1e-6)
    assert float(attention_distance(IMAGES, IMAGES[:, ::-1])) > 0.05


def test_attention_of_nothing_is_a_number():
    import tensorflow as tf

    features = tf.Variable(tf.zeros((2, 3, 3, 4)))
    with tf.GradientTape() as tape:
        loss = attention_distance(features, np.ones((2, 3, 3, 4), np.float32))
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, features)).all()


def huber(error):
    error = np.abs(error)
    return np.where(error < 1, error**2 / 2, error - 0.5).mean()


def relations(points):
    """Park's distances and angles, one by one."""
    count = len(points)
    lengths = np.array([[np.linalg.norm(a - b) for b in points] for a in points])
    angles = np.zeros((count, count, count))
    for j in range(count):
        for i in range(count):
            for k in range(count):
                if j not in (i, k):
                    one, other = points[i] - points[j], points[k] - points[j]
                    angles[j, i, k] = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    return lengths / (lengths.sum() / (count * (count - 1))), angles


def test_relations_are_the_closed_form():
    ours, theirs = DRAWS.normal(size=(2, 6, 5))
    ours[0] *= 9  # so that the Huber loss leaves its parabola
    (lengths, angles), (teacher_lengths, teacher_angles) = relations(ours), relations(theirs)
    expected = huber(lengths - teacher_lengths) + 2 * huber(angles - teacher_angles)
    distance = float(relational_distance(ours.astype(np.float32), theirs.astype(np.float32)))
    assert distance == pytest.approx(expected, rel=1e-4)


def test_relations_see_neither_rotation_nor_scale_nor_place():
    points = DRAWS.normal(size=(7, 5)).astype(np.float32)
    turned, _ = np.linalg.qr(DRAWS.normal(size=(5, 5)))
    moved = (4 * points @ turned + 3).astype(np.float32)
    assert float(relational_distance(points, moved)) == pytest.approx(0, abs=1e-6)
    assert float(relational_distance(points, points[::-1])) > 0.05


def test_relations_of_equal_examples_teach_numbers_and_large_batches_stay_small():
    import tensorflow as tf

    points = tf.Variable(tf.ones((RELATED + 9, 4)))
    with tf.GradientTape() as tape:
        loss = relational_distance(points, DRAWS.normal(size=(RELATED + 9, 3)).astype(np.float32))
    slope = tape.gradient(loss, points)
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()
    assert not np.any(slope[RELATED:])


def test_relations_take_no_more_memory_for_larger_features():
    """The way from each example to each other one, in all its values, took 300 times the memory of the features."""
    import tensorflow as tf

    spec = tf.TensorSpec((RELATED, 5000))
    graph = tf.function(relational_distance).get_concrete_function(spec, spec).graph
    sizes = [output.shape.num_elements() or 0 for operation in graph.get_operations() for output in operation.outputs]
    assert max(sizes) <= max(RELATED * 5000, RELATED**3)


def test_relations_of_examples_far_from_zero_keep_their_digits():
    """Inner products of like values cancel: what differs in the fourth digit was seen by the ways themselves."""
    points, others = DRAWS.normal(size=(2, 6, 5))
    far = (1000 + points).astype(np.float32)
    (lengths, angles), (teacher_lengths, teacher_angles) = relations(far.astype(np.float64)), relations(others)
    expected = huber(lengths - teacher_lengths) + 2 * huber(angles - teacher_angles)
    assert float(relational_distance(far, others.astype(np.float32))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("hint", ["features", "relational"])
def test_the_same_model_is_no_distance(hint):
    model = tiny()
    lesson = hinted(PLAIN, tiny(name="teacher"), teaching(hint, weight=3.0))(model)
    assert not lesson.weights
    loss, predictions = lesson.loss(X, Y, None, False)
    assert float(loss) == pytest.approx(float(PLAIN(model).loss(X, Y, None, False)[0]), rel=1e-5)
    np.testing.assert_array_equal(predictions, model(X))


def test_features_of_another_width_are_mapped_and_the_map_learns():
    import tensorflow as tf

    student, teacher = tiny(4), tiny(8)
    lesson = hinted(PLAIN, teacher, teaching())(student)
    assert [tuple(variable.shape) for variable in lesson.weights] == [(4, 8)]
    weights = [*student.trainable_weights, *lesson.weights]
    with tf.GradientTape() as tape:
        loss, _ = lesson.loss(X, Y, None, True)
    gradients = tape.gradient(loss, [*weights, *teacher.trainable_weights])
    assert all(gradient is not None for gradient in gradients[: len(weights)])
    assert all(gradient is None for gradient in gradients[len(weights) :]), "the teacher is not to be trained"


def test_several_pairs_add_up():
    student, teacher = tiny(4), tiny(8)
    base = float(PLAIN(student).loss(X, Y, None, False)[0])

    def added(*layers):
        relational = Teaching(hint="relational", teacher_layers=layers, student_layers=layers)
        return float(hinted(PLAIN, teacher, relational)(student).loss(X, Y, None, False)[0]) - base

    assert added("hidden", "logits") == pytest.approx(added("hidden") + added("logits"), rel=1e-4)


def test_layers_that_are_not_there_are_answered_with_those_that_are():
    with pytest.raises(ModelError, match=r"distill\.teacher_layer.*hiden.*input, hidden, logits, probabilities"):
        hinted(PLAIN, tiny(), teaching(layer="hiden"))(tiny())


def test_attention_needs_places():
    with pytest.raises(ModelError, match="needs positions"):
        hinted(PLAIN, tiny(), teaching("attention"))(tiny())


def test_a_layer_that_is_gone_is_noted_and_the_rest_goes_on():
    import tensorflow as tf

    i = tf.keras.Input((2,))
    other = tf.keras.Model(i, tf.keras.layers.Dense(3, activation="softmax", name="all")(i), name="other")
    notes = []
    lesson = hinted(PLAIN, tiny(), teaching(), lost=notes.append)(other)
    assert float(lesson.loss(X, Y, None, False)[0]) == float(PLAIN(other).loss(X, Y, None, False)[0])
    assert len(notes) == 1
    assert "without features" in notes[0]
    assert "'hidden'" in notes[0]
