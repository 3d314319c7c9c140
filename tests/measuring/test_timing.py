"""Calls timed in turn, and the interval of the ratio of their times."""

import gc
import time

import numpy as np
import pytest

from tasks.measuring.timing import FEWEST_ROUNDS, PAUSE, ratio_interval, time_in_turn


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
    ratio = ratio_interval(a, b)
    assert ratio.low < ratio.estimate < ratio.high
    assert ratio.estimate == pytest.approx(np.median(a) / np.median(b), rel=1e-5)
    assert 1.9 < ratio.low < ratio.high < 2.05
    same = ratio_interval(a, a)
    assert same.low == same.high == 1
    assert ratio == ratio_interval(a, b), "the same seed gives the same interval"


def test_visits_cover_what_single_rounds_would_not():
    """Two calls of the same true speed, each slowed by what holds for a whole visit: most intervals must hold 1."""
    random = np.random.default_rng(2)
    covered, covered_singly = [], []
    for seed in range(60):
        a, b = (1 + random.exponential(0.2, (20, 1)) + random.exponential(0.01, (20, 10)) for _ in range(2))
        by_visit, singly = (
            ratio_interval(a, b, seed=seed),
            ratio_interval(a.reshape(-1, 1), b.reshape(-1, 1), seed=seed),
        )
        covered.append(by_visit.low <= 1 <= by_visit.high)
        covered_singly.append(singly.low <= 1 <= singly.high)
    assert np.mean(covered) > 0.9
    assert np.mean(covered_singly) < 0.7
