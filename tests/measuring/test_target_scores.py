"""Several targets, each in units of its own."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tasks.measuring.intervals import bootstrap_mean, mean_interval, paired_interval
from tasks.measuring.measure import measure_of
from tasks.measuring.scores import example_scores, further_figures

PRICE_AND_RATE = np.random.default_rng(4).normal(size=(300, 2)) * [80_000, 0.2] + [200_000, 0.5]

VARIANCES = tuple(PRICE_AND_RATE.var(axis=0))


def test_each_of_several_targets_has_a_score_in_units_of_its_own():
    prediction = PRICE_AND_RATE + np.random.default_rng(5).normal(size=(300, 2)) * [8_000, 0.2]
    scores = example_scores("regression", PRICE_AND_RATE, prediction, VARIANCES)
    expected = sk.r2_score(PRICE_AND_RATE, prediction, multioutput="raw_values")
    np.testing.assert_allclose(scores.mean(axis=0), expected)
    assert mean_interval(scores).estimate == pytest.approx(expected.mean(), rel=1e-5)
    further = further_figures("regression", PRICE_AND_RATE, prediction, ("price", "rate"), VARIANCES)
    assert further["r2/price"] == pytest.approx(expected[0])
    assert further["r2/rate"] == pytest.approx(expected[1])
    assert further["rmse/price"] == pytest.approx(8_000, rel=0.1)
    assert further["mae/rate"] == pytest.approx(0.16, rel=0.1)
    assert set(further_figures("regression", PRICE_AND_RATE, prediction)) == {
        "rmse/target_0", "rmse/target_1", "mae/target_0", "mae/target_1",
    }  # fmt: skip


@pytest.mark.parametrize("worse", [0, 1])
def test_the_drop_is_the_worst_target_s_whatever_its_scale(worse):
    random = np.random.default_rng(6)
    before = PRICE_AND_RATE + random.normal(size=(300, 2)) * [8_000, 0.02]
    after = before.copy()
    after[:, worse] += random.normal(size=300) * [40_000, 0.1][worse]
    reference, candidate = (example_scores("regression", PRICE_AND_RATE, each, VARIANCES) for each in (before, after))
    drop = paired_interval(reference, candidate)
    assert drop == paired_interval(reference[:, worse], candidate[:, worse])
    assert drop.estimate == pytest.approx(0.25, abs=0.08)
    measure = measure_of("r2", "regression", PRICE_AND_RATE, VARIANCES, names=("price", "rate"))
    each = measure.by_target(before, after)
    assert measure.drop(before, after) == drop
    assert each["price" if worse == 0 else "rate"].drop == drop
    assert each["rate" if worse == 0 else "price"].drop.high == pytest.approx(0, abs=1e-12)
    assert each["price"].score.estimate == pytest.approx(candidate[:, 0].mean(), rel=1e-5)


def test_one_target_is_scored_as_ever():
    y = PRICE_AND_RATE[:, :1]
    before, after = y + 9_000, y + np.random.default_rng(7).normal(size=y.shape) * 30_000
    reference, candidate = (example_scores("regression", y, each, VARIANCES[0]) for each in (before, after))
    np.testing.assert_array_equal(candidate, 1 - np.square(after - y)[:, 0] / VARIANCES[0])
    assert mean_interval(candidate) == bootstrap_mean(candidate)
    assert paired_interval(reference, candidate) == bootstrap_mean(reference - candidate)
    measure = measure_of("auto", "regression", y, VARIANCES[0])
    assert measure.drop(before, after) == paired_interval(reference, candidate)
    assert measure.by_target(before, after) == {}
