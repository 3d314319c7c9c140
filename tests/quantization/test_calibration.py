"""Ranges from histograms, against NumPy's own quantiles and against what clipping costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.quantization.calibration import BINS, Seen, chosen_range


def seen(values: np.ndarray) -> Seen:
    histogram = Seen.between(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    for part in np.array_split(values, 3):
        histogram.add(part)
    return histogram


def cost(values: np.ndarray, low: float, high: float) -> float:
    """The mean squared error of rounding values to 256 steps."""
    scale = (high - low) / 255
    return float(np.square(np.round(np.clip(values, low, high) / scale) * scale - values).mean())


def test_percentile_is_numpys_up_to_a_bin():
    values = np.random.default_rng(0).normal(0.3, 1, 100_000)
    histogram = seen(values)
    low, high = chosen_range(histogram, "percentile", 99)
    width = (histogram.high - histogram.low) / BINS
    expected = np.quantile(values, [0.005, 0.995])
    np.testing.assert_allclose([low, high], expected, atol=1.5 * width)


def test_all_of_it_is_what_was_seen():
    values = np.array([-1.5, 0.2, 3.0])
    assert chosen_range(seen(values), "minmax", 90) == (-1.5, 3.0)
    assert chosen_range(seen(values), "percentile", 100) == (-1.5, 3.0)


def test_entropy_cuts_off_an_outlier_and_rounds_the_rest_better():
    draw = np.random.default_rng(1)
    bulk = np.abs(draw.normal(0, 1, 50_000))
    values = np.append(bulk, 60.0)
    low, high = chosen_range(seen(values), "entropy", 100)
    assert low == 0
    assert 2.5 < high < 12
    assert cost(bulk, low, high) < cost(bulk, 0, 60) / 10


def test_entropy_leaves_values_alone_that_fill_their_range():
    values = np.random.default_rng(2).uniform(-1, 1, 50_000)
    low, high = chosen_range(seen(values), "entropy", 100)
    assert low == pytest.approx(-1, abs=0.02)
    assert high == pytest.approx(1, abs=0.02)


def drawn(kind: str) -> np.ndarray:
    draw = np.random.default_rng(3)
    bulk = draw.standard_t(3, 50_000) if kind == "tails" else draw.normal(0, 4, 50_000)
    return {"relu": np.maximum(bulk, 0), "swish": bulk / (1 + np.exp(-bulk)), "negative": -np.abs(bulk)}.get(kind, bulk)


@pytest.mark.parametrize("kind", ["normal", "tails", "relu", "swish", "negative"])
def test_least_squares_are_no_more_than_any_other_calibration_s_and_less_than_those_of_ranges_beside_it(kind):
    values = drawn(kind)
    histogram = seen(values)
    low, high = chosen_range(histogram, "mse", 99.99)
    least = cost(values, low, high)
    for other in ("minmax", "percentile", "entropy"):
        assert least < 1.01 * cost(values, *chosen_range(histogram, other, 99.99)), other
    for factor in (0.8, 1.2):  # cutting more off costs more, and so do coarser steps
        assert least < cost(values, factor * low, factor * high)


def test_least_squares_leave_values_alone_that_fill_their_range():
    values = np.random.default_rng(2).uniform(-1, 1, 50_000)
    assert chosen_range(seen(values), "mse", 100) == pytest.approx((-1, 1), abs=0.02)


numbers = st.lists(st.floats(-1e4, 1e4, allow_subnormal=False), min_size=1, max_size=200)


@given(numbers, st.sampled_from(["minmax", "percentile", "entropy", "mse"]), st.floats(90, 100))
def test_a_range_holds_zero_and_is_no_wider_than_what_was_seen(values, method, percentile):
    histogram = seen(np.array(values))
    low, high = chosen_range(histogram, method, percentile)
    assert histogram.low <= low <= 0 <= high <= histogram.high
