"""Metrics against published figures, SciPy and scikit-learn, and against what must hold for any numbers."""

import gc
import math
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn import metrics as sk

from tasks.measuring.intervals import (
    RESAMPLES,
    bootstrap_mean,
    independent_difference,
    interval,
    paired_interval,
    tango,
    tango_statistic,
    wilson,
)
from tasks.measuring.scores import confusion_matrix, example_scores, further_figures, parity
from tasks.measuring.target_scores import by_target
from tasks.measuring.timing import FEWEST_ROUNDS, PAUSE, ratio_interval, time_in_turn


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
    found = tango(lost, gained, n, confidence)
    digits = 0.0005 if n < 100 else 0.00005
    assert (found.low, found.high) == pytest.approx((low, high), abs=digits)


@given(paired_counts(), confidences)
def test_tango_holds_the_estimate_and_has_a_width(counts, confidence):
    lost, gained, n = counts
    found = tango(lost, gained, n, confidence)
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    mirrored = tango(gained, lost, n, confidence)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@given(paired_counts())
def test_tango_ends_where_the_score_test_rejects(counts):
    lost, gained, n = counts
    found = tango(lost, gained, n)
    z = stats.norm.ppf(0.975)
    outside, inside = 1e-4, -1e-4
    for end, sign in ((found.low, -1), (found.high, 1)):
        if -0.999 < end < 0.999:
            assert abs(tango_statistic(lost, gained, n, end + sign * outside)) > z - 1e-9
            if abs(end - found.estimate) > 1e-3:
                assert abs(tango_statistic(lost, gained, n, end + sign * inside)) < z + 1e-9


@given(paired_counts(), st.floats(-0.9, 0.9))
@settings(max_examples=50)
def test_tangos_statistic_uses_the_likeliest_probabilities(counts, difference):
    """The restricted maximum likelihood, found numerically instead of by Tango's closed form."""
    lost, gained, n = counts

    def unlikelihood(share: float) -> float:
        cells = (share + difference, share, 1 - 2 * share - difference)
        found = (lost, gained, n - lost - gained)
        return -sum(count * math.log(max(cell, 1e-300)) for count, cell in zip(found, cells, strict=True) if count)

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
        found = [tango(int(lost), int(gained), n) for lost, gained, _ in drawn]
        covered = np.mean([one.low <= truth <= one.high for one in found])
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
def test_bootstrap_holds_the_mean_for_any_values(values):
    found = bootstrap_mean(np.array(values))
    assert found.low <= found.estimate <= found.high
    assert found == bootstrap_mean(np.array(values)), "the same seed gives the same interval"


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
    found = paired_interval(right, right, "classification")
    assert found.estimate == 0
    z = stats.norm.ppf(0.975)
    assert found.high == pytest.approx(z**2 / (100 + z**2), rel=1e-4)


def test_pairs_tell_more_than_two_intervals():
    random = np.random.default_rng(0)
    hard = random.normal(size=400)
    teacher = 0.9 + hard
    student = teacher - 0.01 + random.normal(scale=0.01, size=400)
    found = paired_interval(teacher, student, "regression")
    alone = interval(student, "regression")
    assert found.low < 0.01 < found.high
    assert (found.high - found.low) < (alone.high - alone.low) / 20


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


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_regression_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    y = random.normal(3, 2, (50, 1)).astype(np.float32)
    prediction = (y + random.normal(0, 0.5, y.shape)).astype(np.float32)
    found = example_scores("regression", y, prediction, float(y.var(dtype=np.float64)))
    assert found.shape == (50,)
    assert found.mean() == pytest.approx(sk.r2_score(y, prediction), rel=1e-6)
    further = further_figures("regression", y, prediction)
    assert further["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, prediction)), rel=1e-5)
    assert further["mae"] == pytest.approx(sk.mean_absolute_error(y, prediction), rel=1e-5)


def test_reconstruction_scores_images():
    y = np.random.default_rng(0).normal(size=(4, 3, 3, 1))
    assert example_scores("reconstruction", y, y, 2.0) == pytest.approx(np.ones(4))
    assert example_scores("reconstruction", y, y + 1, 2.0) == pytest.approx(np.full(4, 0.5))


def test_parity():
    reference = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)
    found = parity("classification", reference, reference + np.array([[0, 0], [0.3, 0]], np.float32))
    assert found.max_absolute == pytest.approx(0.3, rel=1e-5)
    assert found.mean_absolute == pytest.approx(0.075, rel=1e-5)
    assert found.max_relative == pytest.approx(0.3 / 0.7, rel=1e-5)
    assert found.agreement == 0.5
    assert parity("regression", reference, reference).agreement is None


def test_calls_are_timed_in_turn_and_warm():
    order: list[str] = []
    calls = {name: lambda x, name=name: order.append(name) or gc.isenabled() for name in "ABC"}
    times = time_in_turn(calls, np.zeros(1), rounds=7, warmup=2)
    assert order[::2] == order[1::2], "each behind a call of its own"
    rounds = ["".join(order[start : start + 6 : 2]) for start in range(0, len(order), 6)]
    assert len(rounds) == 2 + 1 + 7
    assert {"".join(sorted(turn)) for turn in rounds} == {"ABC"}, "each once a round"
    assert len(set(rounds)) > 2, "nobody always runs behind the same neighbour"
    assert all(values.shape == (7, 1) and (values > 0).all() for values in times.values())
    assert gc.isenabled()


def test_rounds_are_spread_over_visits():
    begun = time.perf_counter()
    times = time_in_turn({"A": lambda x: x, "B": lambda x: x}, np.zeros(1), rounds=105, warmup=1)
    assert times["A"].shape == times["B"].shape == (17, 6)
    assert time.perf_counter() - begun > 17 * PAUSE


def test_the_collector_is_off_while_timing_and_on_after_a_failure():
    states: list[bool] = []
    time_in_turn({"A": lambda x: states.append(gc.isenabled())}, np.zeros(1), rounds=3, warmup=1)
    assert states == [True] * 4 + [False] * 6
    calls = iter(range(2))
    with pytest.raises(StopIteration):
        time_in_turn({"A": lambda x: next(calls)}, np.zeros(1), rounds=3, warmup=1)
    assert gc.isenabled()


def test_a_slow_call_ends_by_its_time_limit():
    begun = time.perf_counter()
    times = time_in_turn({"A": lambda x: time.sleep(0.02)}, np.zeros(1), rounds=1000, warmup=1000, seconds=0.2)
    assert time.perf_counter() - begun < 2
    assert FEWEST_ROUNDS <= times["A"].size <= 10
    assert np.median(times["A"]) == pytest.approx(0.02, rel=0.5)
    slower = time_in_turn({"A": lambda x: time.sleep(0.02)}, np.zeros(1), rounds=1000, warmup=1, seconds=0.01)
    assert slower["A"].size == FEWEST_ROUNDS


def test_the_ratio_of_times():
    random = np.random.default_rng(1)
    a, b = (level + random.exponential(0.1, (20, 10)) for level in (2, 1))
    found = ratio_interval(a, b)
    assert found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(np.median(a) / np.median(b), rel=1e-5)
    assert 1.9 < found.low < found.high < 2.05
    same = ratio_interval(a, a)
    assert same.low == same.high == 1
    assert found == ratio_interval(a, b), "the same seed gives the same interval"


def test_visits_cover_what_single_rounds_would_not():
    """Two calls of the same true speed, each slowed by what holds for a whole visit: most intervals must hold 1."""
    random = np.random.default_rng(2)
    covered, covered_singly = [], []
    for seed in range(60):
        a, b = (1 + random.exponential(0.2, (20, 1)) + random.exponential(0.01, (20, 10)) for _ in range(2))
        found, singly = ratio_interval(a, b, seed=seed), ratio_interval(a.reshape(-1, 1), b.reshape(-1, 1), seed=seed)
        covered.append(found.low <= 1 <= found.high)
        covered_singly.append(singly.low <= 1 <= singly.high)
    assert np.mean(covered) > 0.9
    assert np.mean(covered_singly) < 0.7


def test_newcombe_s_own_example_of_independent_shares():
    """Newcombe 1998, table II, method 10: 56 of 70 against 48 of 80."""
    found = independent_difference(wilson(56, 70), wilson(48, 80))
    assert (found.low, found.estimate, found.high) == pytest.approx((0.0524, 0.2, 0.3339), abs=5e-5)


PRICE_AND_RATE = np.random.default_rng(4).normal(size=(300, 2)) * [80_000, 0.2] + [200_000, 0.5]
VARIANCES = tuple(PRICE_AND_RATE.var(axis=0))


def test_each_of_several_targets_has_a_score_in_units_of_its_own():
    prediction = PRICE_AND_RATE + np.random.default_rng(5).normal(size=(300, 2)) * [8_000, 0.2]
    found = example_scores("regression", PRICE_AND_RATE, prediction, VARIANCES)
    expected = sk.r2_score(PRICE_AND_RATE, prediction, multioutput="raw_values")
    np.testing.assert_allclose(found.mean(axis=0), expected)
    assert interval(found, "regression").estimate == pytest.approx(expected.mean(), rel=1e-5)
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
    drop = paired_interval(reference, candidate, "regression")
    assert drop == paired_interval(reference[:, worse], candidate[:, worse], "regression")
    assert drop.estimate == pytest.approx(0.25, abs=0.08)
    each = by_target(("price", "rate"), reference, candidate)
    assert each["price" if worse == 0 else "rate"].drop == drop
    assert each["rate" if worse == 0 else "price"].drop.high == pytest.approx(0, abs=1e-12)
    assert each["price"].score.estimate == pytest.approx(candidate[:, 0].mean(), rel=1e-5)


def test_one_target_is_scored_as_ever():
    y = PRICE_AND_RATE[:, :1]
    before, after = y + 9_000, y + np.random.default_rng(7).normal(size=y.shape) * 30_000
    reference, candidate = (example_scores("regression", y, each, VARIANCES[0]) for each in (before, after))
    np.testing.assert_array_equal(candidate, 1 - np.square(after - y)[:, 0] / VARIANCES[0])
    assert interval(candidate, "regression") == bootstrap_mean(candidate)
    assert paired_interval(reference, candidate, "regression") == bootstrap_mean(reference - candidate)
    assert by_target((), reference, candidate) == {}
