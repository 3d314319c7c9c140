"""Drift: numbers against scipy's and closed forms, and alarms where there is something to alarm about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tasks.drift.distributions import class_distribution, distribution, drifts, holm, homogeneity, stability_index

counts = st.lists(st.integers(0, 5000), min_size=2, max_size=20)


def test_bins_hold_a_tenth_each():
    values = np.random.default_rng(0).normal(size=10_000)
    reference = distribution(values)
    assert len(reference.counts) == 10
    assert set(reference.counts) == {1000}
    np.testing.assert_allclose(reference.edges, stats.norm.ppf(np.linspace(0.1, 0.9, 9)), atol=0.05)


def test_a_value_that_is_met_often_has_a_bin_of_its_own():
    reference = distribution(np.r_[np.zeros(700), np.linspace(1, 2, 300)])
    zeros = reference.counts[reference.edges.index(0.0) + 1]
    assert zeros == 700
    constant = distribution(np.full(50, 3.0))
    assert constant.counts == (0, 50, 0)
    (moved,) = drifts({"x": constant}, {"x": np.full(50, 3.5)}, limit=0.25, significance=0.01)
    assert moved.drifted


@pytest.mark.parametrize(("classes", "bins"), [(2, 2), (10, 10), (20, 20), (1000, 20)])
def test_classes_are_bins_until_there_are_many(classes, bins):
    reference = class_distribution(np.arange(classes), classes)
    assert len(reference.counts) == bins
    assert set(reference.counts) == {classes // bins}


def test_the_stability_index_is_the_sum_that_it_is_named_for():
    p, q = np.array([100, 300, 600]), np.array([200, 300, 500])
    a, b = (p + 0.5) / 1001.5, (q + 0.5) / 1001.5
    assert stability_index(p, q) == pytest.approx(stats.entropy(a, b) + stats.entropy(b, a))
    assert stability_index(p, q) == pytest.approx(0.1 * np.log(2) + 0.1 * np.log(6 / 5), rel=0.02)


@given(counts, st.data())
def test_the_stability_index_is_symmetric_and_zero_for_the_same(first, data):
    second = data.draw(st.lists(st.integers(0, 5000), min_size=len(first), max_size=len(first)))
    assert stability_index(first, second) == pytest.approx(stability_index(second, first))
    assert stability_index(first, second) >= 0
    assert stability_index(first, first) == pytest.approx(0)


def test_homogeneity_is_the_chi_squared_test():
    table = np.array([[20, 30, 50], [40, 30, 30]])
    assert homogeneity(*table.tolist()) == pytest.approx(stats.chi2_contingency(table).pvalue)
    assert homogeneity([20, 30, 50, 0], [40, 30, 30, 0]) == pytest.approx(stats.chi2_contingency(table).pvalue)
    assert homogeneity([5, 0], [9, 0]) == 1


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979, by hand
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
def test_holm_depends_on_values_not_on_their_order(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    corrected = holm(values)
    assert holm([values[place] for place in order]) == pytest.approx([corrected[place] for place in order])
    assert all(after >= before for before, after in zip(values, corrected, strict=True))


def test_false_alarms_are_as_rare_as_is_said():
    """400 times 8 figures that have not moved: with so few examples the index alone would alarm again and again."""
    random = np.random.default_rng(1)
    references = {f"x{number}": distribution(random.normal(size=2000)) for number in range(8)}
    alarms = beyond = 0
    for _ in range(400):
        values = {name: random.normal(size=60) for name in references}
        moved = drifts(references, values, limit=0.25, significance=0.05)
        alarms += any(drift.drifted for drift in moved)
        beyond += any(drift.stability_index > 0.25 for drift in moved)
    assert stats.binomtest(alarms, 400, 0.05, alternative="greater").pvalue > 0.001, alarms
    assert beyond > 2 * alarms


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_a_shift_is_found_and_named(shift):
    random = np.random.default_rng(2)
    references = {name: distribution(random.normal(size=2000)) for name in ("a", "b", "c")}
    values = {name: random.normal(size=200) for name in references}
    values["b"] = values["b"] + shift
    moved = drifts(references, values, limit=0.25, significance=0.01)
    assert [drift.name for drift in moved if drift.drifted] == ["b"]
    assert moved[0].name == "b"
    assert moved[0].stability_index == pytest.approx(1, abs=0.4)  # of unit normals: the squared shift


def test_a_tiny_shift_of_many_examples_is_no_drift():
    random = np.random.default_rng(3)
    reference = {"x": distribution(random.normal(size=50_000))}
    (drift,) = drifts(reference, {"x": random.normal(size=50_000) + 0.05}, limit=0.25, significance=0.01)
    assert drift.p_value < 1e-6
    assert not drift.drifted


@given(st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed):
    random = np.random.default_rng(seed)
    values = random.choice([0.0, 0.5, random.normal()], 300) + random.normal(size=300).round(1)
    kept = distribution(values)
    assert distribution(random.permutation(values)) == kept
    assert sum(kept.counts) == 300
    assert list(kept.edges) == sorted(set(kept.edges))
