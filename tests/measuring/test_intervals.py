"""Intervals against published figures and SciPy's, and against what must hold for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from tasks.measuring.intervals import (
    RESAMPLES,
    bootstrap_mean,
    independent_difference,
    mean_interval,
    paired_interval,
    tango,
    tango_statistic,
    wilson,
)


@st.composite
def paired_counts(draw) -> tuple[int, int, int]:
    n = draw(st.integers(1, 2000))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


confidences = st.floats(0.5, 0.999)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), confidences)
@example((0, 1), 0.95)
@example((5000, 5000), 0.999)
def test_wilson_ends_where_the_score_test_rejects(counts, confidence):
    """The ends are the shares p with (right / n - p)² = z² p (1 - p) / n, in six digits as figures are kept."""
    right, n = counts
    z = stats.norm.ppf((1 + confidence) / 2)
    roots = np.roots([n + z * z, -(2 * right + z * z), right * right / n]) if 0 < right < n else ()
    low, high = sorted(roots) or ((0, z * z / (n + z * z)) if right == 0 else (n / (n + z * z), 1))
    actual = wilson(right, n, confidence)
    assert (actual.low, actual.high) == pytest.approx((low, high), rel=5.1e-6, abs=1e-9)
    assert actual.low <= actual.estimate <= actual.high


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_one(right, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3."""
    actual = wilson(right, n)
    assert (actual.low, actual.high) == pytest.approx((low, high), abs=5e-5)


def test_tangos_own_example():
    """Tango 1998, section 6.1: soft contact lenses, 43 pairs effective in both arms, one in the standard's alone."""
    assert tango_statistic(0, 1, 44, -0.1) == pytest.approx(1.709, abs=0.0005)
    assert tango(0, 1, 44, confidence=0.90).low == pytest.approx(-0.096, abs=0.0005)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "confidence", "low", "high"),
    [
        (1, 7, 21, 0.95, -0.517, -0.026),  # airway hyper-responsiveness: Fagerland, Lydersen and Laake 2014
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # PropCIs::scoreci.mp(25, 28, 618, 0.90) of R
    ],
)
def test_tango_is_the_published_one(lost, gained, n, confidence, low, high):
    actual = tango(lost, gained, n, confidence)
    digits = 0.0005 if n < 100 else 0.00005
    assert (actual.low, actual.high) == pytest.approx((low, high), abs=digits)


@given(paired_counts(), confidences)
def test_tango_contains_the_estimate_and_has_a_width(counts, confidence):
    lost, gained, n = counts
    actual = tango(lost, gained, n, confidence)
    assert -1 <= actual.low <= actual.estimate <= actual.high <= 1
    assert actual.low < actual.high
    mirrored = tango(gained, lost, n, confidence)
    assert (mirrored.low, mirrored.high) == pytest.approx((-actual.high, -actual.low), abs=1e-9)


@given(paired_counts())
def test_tango_ends_where_the_score_test_rejects(counts):
    lost, gained, n = counts
    actual = tango(lost, gained, n)
    z = stats.norm.ppf(0.975)
    outside, inside = 1e-4, -1e-4
    for end, sign in ((actual.low, -1), (actual.high, 1)):
        if -0.999 < end < 0.999:
            assert abs(tango_statistic(lost, gained, n, end + sign * outside)) > z - 1e-9
            if abs(end - actual.estimate) > 1e-3:
                assert abs(tango_statistic(lost, gained, n, end + sign * inside)) < z + 1e-9


@given(paired_counts(), st.floats(-0.9, 0.9))
@settings(max_examples=50)
def test_tangos_statistic_uses_the_likeliest_probabilities(counts, difference):
    """The restricted maximum likelihood, searched for numerically instead of by Tango's closed form."""
    lost, gained, n = counts

    def unlikelihood(share: float) -> float:
        cells = (share + difference, share, 1 - 2 * share - difference)
        drawn = (lost, gained, n - lost - gained)
        return -sum(count * math.log(max(cell, 1e-300)) for count, cell in zip(drawn, cells, strict=True) if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = optimize.minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
    spread = n * (2 * share + difference - difference**2)
    if spread > 1e-3 * n:
        expected = (lost - gained - n * difference) / math.sqrt(spread)
        assert tango_statistic(lost, gained, n, difference) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(paired_counts().filter(lambda counts: counts[0] + counts[1] > 0))
def test_at_no_difference_tango_is_mcnemar(counts):
    lost, gained, n = counts
    assert tango_statistic(lost, gained, n, 0.0) == pytest.approx((lost - gained) / math.sqrt(lost + gained))


def test_tango_covers_what_it_claims():
    """Of 2000 test splits drawn from a known truth, 95% of the intervals hold it, and so do few examples."""
    random = np.random.default_rng(5)
    for n, cells in ((60, (0.05, 0.02, 0.93)), (360, (0.02, 0.01, 0.97))):
        truth = cells[0] - cells[1]
        drawn = random.multinomial(n, cells, 2000)
        intervals = [tango(int(lost), int(gained), n) for lost, gained, _ in drawn]
        covered = np.mean([one.low <= truth <= one.high for one in intervals])
        assert 0.93 < covered < 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("resamples", [RESAMPLES, 9999])
def test_bootstrap_is_scipys_bca(seed, resamples):
    values = np.random.default_rng(seed).exponential(size=80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=resamples, method="BCa", rng=seed).confidence_interval
    ours = bootstrap_mean(values, seed=seed)
    noise = (1e-5 if resamples == RESAMPLES else 0.08) * (theirs.high - theirs.low)  # the same draws, or others
    assert ours.estimate == pytest.approx(values.mean(), rel=1e-5)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=noise)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 100])
def test_resamples_with_the_mean_of_the_sample_count_half(n):
    """SciPy knows them where sums are exact, of whole numbers; of tenths each order of summing rounds otherwise."""
    for seed in range(4):
        whole = np.random.default_rng(seed).permutation(np.arange(n) % 3 * (np.arange(n) < max(3, n // 8)))
        theirs = stats.bootstrap(
            (whole,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
        ).confidence_interval
        ours = bootstrap_mean(whole * 0.1, seed=seed)
        assert (ours.low, ours.high) == pytest.approx((theirs.low / 10, theirs.high / 10), abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
@example([0.0, 9.356204629579464e-111])
def test_bootstrap_contains_the_mean_for_any_values(values):
    actual = bootstrap_mean(np.array(values))
    assert actual.low <= actual.estimate <= actual.high
    assert actual == bootstrap_mean(np.array(values)), "the same seed gives the same interval"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[0.1] * 50, [3.0], [0.0], [0.0, 5e-324], [1e6, 1e6 + 1e-10], [0.1 + 0.2, 0.3] * 9])
def test_values_that_are_as_good_as_the_same_have_no_width(values):
    actual = bootstrap_mean(np.array(values))
    assert actual.low == actual.estimate == actual.high == pytest.approx(values[0], rel=1e-6, abs=1e-300)


@pytest.mark.filterwarnings("error")
def test_differences_that_vanish_when_squared_have_an_interval():
    """Where SciPy's has no number."""
    values = np.array([0.0, 1e-111, 3e-111])
    actual = bootstrap_mean(values)
    assert 0 <= actual.low <= actual.estimate <= actual.high <= 3e-111
    assert actual.estimate == pytest.approx(values.mean(), rel=1e-5)
    with pytest.warns(stats.DegenerateDataWarning), np.errstate(all="ignore"):
        assert np.isnan(stats.bootstrap((values,), np.mean, method="BCa", rng=0).confidence_interval.low)


def test_one_model_twice_drops_nothing_yet_tango_has_a_width():
    right = np.array([1.0] * 95 + [0.0] * 5)
    drop = paired_interval(right, right, share=True)
    assert drop.estimate == 0
    z = stats.norm.ppf(0.975)
    assert drop.high == pytest.approx(z**2 / (100 + z**2), rel=1e-4)


def test_pairs_tell_more_than_two_intervals():
    random = np.random.default_rng(0)
    hard = random.normal(size=400)
    teacher = 0.9 + hard
    student = teacher - 0.01 + random.normal(scale=0.01, size=400)
    paired = paired_interval(teacher, student)
    alone = mean_interval(student)
    assert paired.low < 0.01 < paired.high
    assert (paired.high - paired.low) < (alone.high - alone.low) / 20


def test_newcombe_s_own_example_of_independent_shares():
    """Newcombe 1998, table II, method 10: 56 of 70 against 48 of 80."""
    actual = independent_difference(wilson(56, 70), wilson(48, 80))
    assert (actual.low, actual.estimate, actual.high) == pytest.approx((0.0524, 0.2, 0.3339), abs=5e-5)
