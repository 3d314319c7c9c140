"""Calls timed in turn, and the interval of the ratio of their times."""

import gc
import time

import numpy as np
import pytest

from tasks.measuring.timing import (
    BETWEEN,
    FEWEST_OPENINGS,
    FEWEST_ROUNDS,
    PAUSE,
    VISITS,
    ratio_interval,
    time_anew,
    time_in_turn,
)


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
    assert np.median(times["A"]) >= 0.02
    slower = time_in_turn({"A": lambda x: time.sleep(0.02)}, np.zeros(1), rounds=1000, warmup=1, seconds=0.01)
    assert slower["A"].size == FEWEST_ROUNDS


def test_files_are_opened_anew_for_each_visit_and_one_at_a_time():
    """In an order that is drawn: one opening is luckier than another, and whole visits are what intervals draw."""
    opened: list[str] = []
    alive: set[int] = set()

    class File:
        def __init__(self, name: str) -> None:
            opened.append(name)
            self.itself = self  # in a cycle, as a SavedModel is
            alive.add(id(self))
            assert len(alive) <= 2, "both of this visit, and none of the last"

        def __del__(self) -> None:
            alive.discard(id(self))

        def __call__(self, x: np.ndarray) -> bool:
            return gc.isenabled()

    times = time_anew({name: lambda name=name: File(name) for name in "AB"}, np.zeros(1), rounds=60, warmup=2)
    assert times["A"].shape == times["B"].shape == (VISITS, 3)
    visits = ["".join(opened[start : start + 2]) for start in range(0, len(opened), 2)]
    assert len(visits) == 1 + VISITS
    assert set(visits) == {"AB", "BA"}
    assert gc.isenabled()


def test_files_that_are_slow_to_open_are_opened_less_often():
    def slow():
        time.sleep(0.05)
        return lambda x: None

    begun = time.perf_counter()
    times = time_anew({"A": slow}, np.zeros(1), rounds=100, warmup=2, seconds=0.2)
    assert len(times["A"]) == FEWEST_OPENINGS
    assert times["A"].size <= 100
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(("visits", "opened_anew"), [(20, True), (5, True), (20, False)])
def test_intervals_of_files_opened_anew_contain_the_true_ratio(visits, opened_anew):
    """Each opening is luckier than another by some percent; one opening for all visits hides it from the interval."""
    draw, covered = np.random.default_rng(4), []
    for sitting in range(300):
        luck = draw.normal(1, 0.03, (2, visits if opened_anew else 1, 1))
        a, b = (each * draw.normal(1, 0.01, (visits, 10)) for each in luck)
        interval = ratio_interval(a, b, seed=sitting)
        covered.append(interval.low <= 1 <= interval.high)
    assert bool(np.mean(covered) >= 0.93) is opened_anew


def test_the_ratio_of_times():
    random = np.random.default_rng(1)
    a, b = (level + random.exponential(0.1, (20, 10)) for level in (2, 1))
    ratio = ratio_interval(a, b)
    assert ratio.low < ratio.estimate < ratio.high
    assert ratio.estimate == pytest.approx(np.median(a) / np.median(b), rel=1e-5)
    assert 1.85 < ratio.low < ratio.high < 2.05
    same = ratio_interval(a, a)
    assert same.low == same.high == 1
    alike = ratio_interval(a, a.copy())
    assert 1 - 2 * BETWEEN < alike.low < 1 < alike.high, "another sitting may find another ratio"
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
