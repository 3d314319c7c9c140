"""What mistakes cost, against Keras' own losses."""

import numpy as np
import pytest
from small_training import trained

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data
from tasks.training.loop import FitConfig
from tasks.training.mistakes import Costs, costs_of, label_loss, of_classes, of_labels

RANDOM = np.random.default_rng(0)
P = RANDOM.dirichlet(np.ones(4), 6).astype(np.float32)
Y = np.array([0, 1, 2, 3, 0, 1])
ONES = (1.0,) * 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_cost_what_keras_says(smoothing):
    import tensorflow as tf

    expected = tf.keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)(np.eye(4)[Y], P)
    assert float(of_classes(Y, P, Costs(ONES, (), smoothing, 0))) == pytest.approx(float(expected), rel=1e-4)
    expected = tf.keras.losses.CategoricalFocalCrossentropy(alpha=1, gamma=2, label_smoothing=smoothing)(
        np.eye(4)[Y], P
    )
    assert float(of_classes(Y, P, Costs(ONES, (), smoothing, 2))) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_cost_what_keras_says(smoothing):
    import tensorflow as tf

    y = RANDOM.integers(0, 2, P.shape).astype(np.float32)
    expected = tf.keras.losses.BinaryCrossentropy(label_smoothing=smoothing)(y, P)
    assert float(of_labels(y, P, Costs(ONES, ONES, smoothing, 0))) == pytest.approx(float(expected), rel=1e-4)
    expected = tf.keras.losses.BinaryFocalCrossentropy(gamma=2)(y, P)
    assert float(of_labels(y, P, Costs(ONES, ONES, 0, 2))) == pytest.approx(float(expected), rel=1e-4)


def test_classes_at_each_place_weigh_by_their_own():
    import tensorflow as tf

    p, y = P.reshape(2, 3, 4), Y.reshape(2, 3)
    weights = np.array([1, 2, 3, 4], np.float32)
    each = tf.keras.losses.sparse_categorical_crossentropy(y, p).numpy()
    expected = (each * weights[y]).mean()
    assert float(of_classes(y, p, Costs(tuple(weights), (), 0, 0))) == pytest.approx(expected, rel=1e-4)


def costs_in(data):
    return costs_of(data.config.mistakes, data.head, data.targets["train"])


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """One class in twelve, which the other covers."""
    random = np.random.default_rng(3)
    y = (np.arange(1200) % 12 == 0).astype(int)
    x = random.normal(y[:, None] * 1.2, 1, (1200, 4))
    file = tmp_path_factory.mktemp("rare") / "rare.npz"
    np.savez(file, x=x, y=y)
    return lambda **more: open_data(DataConfig(reader="npz", source=str(file), **more))


def test_weights_leave_the_learning_rate_what_it_is(rare):
    for mistakes in ({"balanced": True}, {"weights": (1, 7)}, {"balanced": True, "weights": (3, 1)}):
        data = rare(mistakes=mistakes)
        there = np.bincount(data.targets["train"]) / data.counts["train"]
        assert np.dot(costs_in(data).there, there) == pytest.approx(1)
    assert costs_in(rare(mistakes={"balanced": True})).there[1] == pytest.approx(6, rel=0.05)


def test_a_rare_class_is_found_when_all_count_alike(rare):
    recalls = []
    for mistakes in ({}, {"balanced": True}):
        data = rare(mistakes=mistakes)
        model, _ = trained(data, FitConfig(epochs=8, learning_rate=0.01), model="mlp", width=0.25)
        x, y = data.arrays("train")
        recalls.append(np.mean(model.predict(x, verbose=0).argmax(axis=1)[y == 1] == 1))
    assert recalls[0] < 0.35
    assert recalls[1] > 0.75


def test_nothing_that_is_asked_for_changes_nothing(rare):
    data = rare()
    y, p = Y % 2, P[:, :2] / P[:, :2].sum(axis=1, keepdims=True)
    costs = costs_in(data)
    assert float(label_loss(data)(y, p)) == pytest.approx(float(of_classes(y, p, costs)), rel=1e-5)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"mistakes": {"weights": (1, 2, 3)}}, "each of the 2 classes"),
        ({"mistakes": {"weights": (1, 0)}}, "above 0"),
        ({"mistakes": {"focal": 2}, "problem": "regression"}, "no classes"),
    ],
)
def test_costs_of_other_classes_are_refused(rare, config, why):
    with pytest.raises(DataError, match=why):
        rare(**config)
