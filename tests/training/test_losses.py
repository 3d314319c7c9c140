import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.data.heads import Head
from tasks.training.losses import (
    DIVERGENCES,
    LOSSES,
    Teaching,
    cross_entropy,
    distillation_targets,
    plain,
    scores,
    softened,
    softened_divergence,
    squared_error,
    supervised,
)

CLASSES = [Head(problem="classification", output_shape=(3,))]
NUMBERS = [Head(problem="regression", output_shape=(1,), variance=2.0)]
LOGITS = arrays(np.float32, (5, 4), elements=st.floats(-6, 6, width=32))


def softmax(z):
    e = np.exp(z.astype(np.float64) - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def tiny(outputs=3, units=4, name="m"):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(units)
    i = tf.keras.Input((2,), name="input")
    hidden = tf.keras.layers.Dense(units, activation="relu", name="hidden")(i)
    logits = tf.keras.layers.Dense(outputs, name="logits")(hidden)
    return tf.keras.Model(i, tf.keras.layers.Softmax(name="probabilities")(logits), name=name)


X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])


@settings(max_examples=30, deadline=None)
@given(teacher=LOGITS, student=LOGITS, temperature=st.floats(1, 20))
def test_the_divergence_is_hintons_on_logits(teacher, student, temperature):
    p, q = (softmax(logits).astype(np.float32) for logits in (teacher, student))
    divergence = softened_divergence(distillation_targets("classification", p), q, temperature)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1))
    assert float(divergence) == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert float(divergence) > -1e-3


def test_it_is_nothing_between_a_model_and_itself():
    p = softmax(np.random.default_rng(1).normal(size=(5, 4))).astype(np.float32)
    assert float(softened_divergence(distillation_targets("classification", p), p, 3.0)) == pytest.approx(0, abs=1e-6)


def test_temperature_squared_keeps_the_gradients_size():
    import tensorflow as tf

    teacher = distillation_targets(
        "classification", softmax(np.random.default_rng(1).normal(size=(5, 4))).astype(np.float32)
    )
    sizes = []
    for temperature in (20.0, 80.0):
        z = tf.Variable(tf.zeros((5, 4)))
        with tf.GradientTape() as tape:
            loss = softened_divergence(teacher, tf.nn.softmax(z), temperature)
        sizes.append(float(tf.norm(tape.gradient(loss, z))))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@settings(max_examples=30, deadline=None)
@given(z=LOGITS, y=arrays(np.int64, 5, elements=st.integers(0, 3)))
def test_cross_entropy_is_the_mean_log_loss(z, y):
    p = softmax(z)
    expected = -np.mean(np.log(np.maximum(p[np.arange(5), y], 1e-7)))
    assert float(cross_entropy(y, p.astype(np.float32))) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_probability_that_rounds_to_nothing_still_teaches():
    import tensorflow as tf

    z = tf.Variable([[200.0, 0.0]])

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.constant([1]), tf.nn.softmax(z))
        return loss, tape.gradient(loss, z)

    loss, slope = gradient()
    assert float(loss) == pytest.approx(200)
    np.testing.assert_allclose(slope, [[1, -1]])


def test_a_confident_teacher_is_kept_without_rounding():
    import tensorflow as tf

    logits = tf.constant([[60.0, 0.0, -40.0]])
    kept = tf.function(lambda z: distillation_targets("classification", tf.nn.softmax(z)))(logits)
    np.testing.assert_allclose(kept, [[0, -60, -100]])
    assert not np.allclose(tf.exp(kept / 20), tf.maximum(tf.nn.softmax(logits), 1e-7) ** (1 / 20))


def test_squared_error_and_score_are_in_units_of_the_variance():
    y = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    p = y + np.array([[1.0, 1.0], [0.0, 2.0]], np.float32)
    assert float(squared_error(y, p, 4.0)) == pytest.approx((1 + 1 + 0 + 4) / 4 / 4)
    np.testing.assert_allclose(scores("regression", y, p, 4.0), [1 - 1 / 4, 1 - 2 / 4])
    mean_squares = float(np.mean((y - p) ** 2)) / 4
    assert float(np.mean(scores("regression", y, p, 4.0))) == pytest.approx(1 - mean_squares)


def test_each_of_several_targets_is_learned_in_units_of_its_own():
    import tensorflow as tf

    y = np.array([[200_000, 0.5], [280_000, 0.1]], np.float32)
    p = tf.Variable(y + np.array([[80_000, 0], [0, 0.2]], np.float32))
    variances = (80_000.0**2, 0.2**2)
    with tf.GradientTape() as tape:
        loss = squared_error(y, p, variances)
    assert float(loss) == pytest.approx(0.5, rel=1e-3)
    slopes = tape.gradient(loss, p).numpy() * np.sqrt(variances)  # for a step of one deviation
    np.testing.assert_allclose(slopes, [[0.5, 0], [0, 0.5]], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scores("regression", y, p, variances), [0.5, 0.5], rtol=1e-3)
    lesson = supervised(plain("regression", variances))(lambda x, training: p)
    assert float(lesson.loss(None, y, None, True)[0]) == pytest.approx(0.5, rel=1e-3)


def test_a_class_scores_one_or_nothing():
    p = softmax(np.eye(3) * 5).astype(np.float32)
    np.testing.assert_array_equal(scores("classification", np.array([0, 2, 2]), p, 1.0), [1, 0, 1])


def test_the_mix_goes_from_the_labels_to_the_teacher():
    student, teacher = tiny(units=4), tiny(units=8)
    by_labels = supervised(plain("classification", 1.0))(student).loss(X, Y, None, False)[0]
    taught = distillation_targets("classification", teacher(X))

    def losses_with(kept):
        return [
            float(
                softened(
                    [Head(problem="classification", output_shape=(), variance=1.0)],
                    teacher,
                    Teaching(temperature=2, mix=mix),
                    plain("classification", 1.0),
                )(student).loss(X, Y, kept, False)[0]
            )
            for mix in (0, 0.5, 1)
        ]

    losses = losses_with(None)
    assert losses_with(taught) == pytest.approx(losses, rel=1e-6), "whether answers were kept changes nothing"
    assert losses_with(taught.numpy()[::-1])[2] != pytest.approx(losses[2], rel=1e-3), "what was kept is what counts"
    divergence = float(softened_divergence(taught, student(X), 2.0))
    assert losses[0] == pytest.approx(float(by_labels), rel=1e-5)
    assert losses[2] == pytest.approx(divergence, rel=1e-4)
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-4)


def test_a_regression_is_taught_values():
    import tensorflow as tf

    def constant(value):
        i = tf.keras.Input((2,))
        layer = tf.keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=tf.constant_initializer(value))
        return tf.keras.Model(i, layer(i))

    y = np.full((6, 1), 5.0, np.float32)
    objective = softened(
        [Head(problem="regression", output_shape=(), variance=2.0)],
        constant(4.0),
        Teaching(mix=0.25),
        plain("regression", 2.0),
    )
    loss, predictions = objective(constant(2.0)).loss(X, y, None, True)
    assert float(loss) == pytest.approx(0.25 * 4 / 2 + 0.75 * 9 / 2)
    np.testing.assert_allclose(predictions, 2.0)


def test_labels_are_learned_as_keras_learns_them():
    """Binary cross-entropy of each, and where float32 has no digits left of a share its slope is still there."""
    import tensorflow as tf

    y = tf.constant([[1.0, 0, 1], [0, 0, 1]])
    logits = tf.Variable([[0.3, -2, 40], [1, 0, -50]])

    @tf.function
    def slope():
        with tf.GradientTape() as tape:
            loss = LOSSES["multilabel"](y, tf.sigmoid(logits), 1.0)
        return loss, tape.gradient(loss, logits)

    loss, gradient = slope()
    with tf.GradientTape() as tape:
        expected = tf.keras.losses.BinaryCrossentropy(from_logits=True)(y, logits)
    assert float(loss) == pytest.approx(float(expected))
    np.testing.assert_allclose(gradient, tape.gradient(expected, logits), rtol=1e-5, atol=1e-9)
    assert gradient[1, 2] < -0.1


def test_classes_at_each_place_are_learned_as_keras_learns_them():
    import tensorflow as tf

    random = np.random.default_rng(0)
    y, p = random.integers(0, 4, (3, 5, 2)), softmax(random.normal(size=(3, 5, 2, 4))).astype(np.float32)
    expected = tf.keras.losses.SparseCategoricalCrossentropy()(y, p)
    assert float(cross_entropy(tf.constant(y, tf.uint8), tf.constant(p))) == pytest.approx(float(expected), rel=1e-4)
    right = (p.argmax(axis=-1) == y).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(scores("classification", tf.constant(y), tf.constant(p), 1.0), right)


@settings(max_examples=20, deadline=None)
@given(teacher=LOGITS, student=LOGITS, temperature=st.floats(1, 20))
def test_the_divergence_of_labels_is_that_of_each_ones_share(teacher, student, temperature):
    p, q = (1 / (1 + np.exp(-each.astype(np.float64))) for each in (teacher, student))
    targets = distillation_targets("multilabel", p.astype(np.float32))
    divergence = DIVERGENCES["multilabel"](targets, q.astype(np.float32), temperature)
    p, q = (1 / (1 + np.exp(-each.astype(np.float64) / temperature)) for each in (teacher, student))
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert float(divergence) == pytest.approx(temperature**2 * each.mean(), rel=1e-2, abs=1e-3)
