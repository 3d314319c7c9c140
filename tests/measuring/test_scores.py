"""Scores against scikit-learn's."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tasks.measuring.scores import confusion_matrix, example_scores, further_figures, parity


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_classification_is_scikit_learns(classes, seed):
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, 60)])
    prediction = random.dirichlet(np.ones(classes), len(y)).astype(np.float32)
    answer = prediction.argmax(axis=1)
    assert example_scores("classification", y, prediction, 1.0).mean() == pytest.approx(sk.accuracy_score(y, answer))
    assert (confusion_matrix(y, prediction, classes) == sk.confusion_matrix(y, answer)).all()
    further = further_figures("classification", y, prediction)
    assert further["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, answer))
    recalls = sk.recall_score(y, answer, average=None, zero_division=0)
    assert further["worst_class_recall"] == pytest.approx(min(recalls))
    clipped = np.clip(prediction.astype(np.float64), 1e-7, None)
    assert further["log_loss"] == pytest.approx(sk.log_loss(y, clipped / clipped.sum(1, keepdims=True)), rel=1e-5)


def test_a_class_without_examples_is_no_class_that_failed():
    y = np.array([0, 0, 1])
    prediction = np.eye(3)[[0, 0, 1]]
    assert further_figures("classification", y, prediction)["worst_class_recall"] == 1


def test_many_classes_take_the_memory_of_their_answers():
    """A confusion matrix of them took 6 GB."""
    classes, y = 20_000, np.array([0, 19_999, 7, 7])
    prediction = np.zeros((4, classes), np.float32)
    prediction[range(4), [0, 19_999, 7, 8]] = 1
    tracemalloc.start()
    further = further_figures("classification", y, prediction)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert further["balanced_accuracy"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert further["worst_class_recall"] == 0.5
    assert peak < 20 * prediction.nbytes


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_regression_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    y = random.normal(3, 2, (50, 1)).astype(np.float32)
    prediction = (y + random.normal(0, 0.5, y.shape)).astype(np.float32)
    scores = example_scores("regression", y, prediction, float(y.var(dtype=np.float64)))
    assert scores.shape == (50,)
    assert scores.mean() == pytest.approx(sk.r2_score(y, prediction), rel=1e-6)
    further = further_figures("regression", y, prediction)
    assert further["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, prediction)), rel=1e-5)
    assert further["mae"] == pytest.approx(sk.mean_absolute_error(y, prediction), rel=1e-5)


def test_reconstruction_scores_images():
    y = np.random.default_rng(0).normal(size=(4, 3, 3, 1))
    assert example_scores("reconstruction", y, y, 2.0) == pytest.approx(np.ones(4))
    assert example_scores("reconstruction", y, y + 1, 2.0) == pytest.approx(np.full(4, 0.5))


def test_parity():
    reference = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)
    difference = parity("classification", reference, reference + np.array([[0, 0], [0.3, 0]], np.float32))
    assert difference.max_absolute == pytest.approx(0.3, rel=1e-5)
    assert difference.mean_absolute == pytest.approx(0.075, rel=1e-5)
    assert difference.max_relative == pytest.approx(0.3 / 0.7, rel=1e-5)
    assert difference.agreement == 0.5
    assert parity("regression", reference, reference).agreement is None
