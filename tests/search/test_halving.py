"""Which of the trials that wait at a rung go on."""

import random

from hypothesis import given
from hypothesis import strategies as st
from made_outcomes import waiting

from tasks.search.front import beats
from tasks.search.halving import going_on, in_order
from tasks.search.space import Goal
from tasks.search.study import Trial

AIMS = (Goal("", "accuracy"), Goal("", "size"), Goal("", "latency"))


def trials(*figures: tuple[float, int, float], misses: dict[int, dict[str, float]] | None = None) -> list[Trial]:
    """Of (score so far, bytes, speed-up) each, numbered from 1."""
    return [
        Trial(number, {}, waiting(score=score, size=size, speedup=speedup, misses=(misses or {}).get(number)))
        for number, (score, size, speedup) in enumerate(figures, 1)
    ]


def numbers(found: list[Trial]) -> list[int]:
    return [trial.number for trial in found]


def test_fronts_one_behind_the_other_and_in_each_the_best_score_first_then_the_farthest():
    tried = trials(
        (0.7, 200, 2),  # beaten by the second alone
        (0.8, 150, 2),
        (0.9, 800, 1),
        (0.2, 100, 4),
        (0.1, 900, 1),  # beaten by all
        (0.88, 780, 1),  # beaten by none, and near the third
    )
    assert numbers(in_order(tried, AIMS)) == [3, 4, 2, 6, 1, 5]
    assert going_on(tried, AIMS, 3) == [3, 4]
    assert going_on(tried, AIMS, 2) == [2, 3, 4]


def test_what_misses_a_limit_by_its_costs_stands_behind_and_by_its_drop_it_does_not():
    of_costs, of_drop = {"max_size_bytes": 0.04}, {"max_accuracy_drop": 0.9}
    tried = trials((0.9, 100, 4), (0.1, 200, 1), (0.8, 300, 1), misses={1: of_costs, 3: of_drop})
    assert numbers(in_order(tried, AIMS)) == [3, 2, 1]


def test_the_score_counts_where_accuracy_is_no_goal():
    tried = trials((0.9, 100, 1), (0.5, 100, 1))
    assert going_on(tried, AIMS[1:2], 2) == [1]


def test_at_least_one_goes_on_and_of_none_none():
    assert going_on(trials((0.5, 100, 1), (0.6, 100, 1)), AIMS, 100) == [2]
    assert going_on([], AIMS, 3) == []


figures = st.tuples(st.integers(0, 4).map(lambda n: n / 4), st.integers(1, 5), st.integers(1, 5))


@given(st.lists(figures, min_size=1, max_size=12), st.integers(2, 5), st.randoms(use_true_random=False))
def test_what_goes_on_is_beaten_by_nothing_that_stops_in_whatever_order_they_came(points, factor, draw: random.Random):
    tried = trials(*points)
    on = going_on(tried, AIMS, factor)
    assert len(on) == max(1, len(points) // factor)
    shuffled = list(tried)
    draw.shuffle(shuffled)
    assert going_on(shuffled, AIMS, factor) == on
    lower = {number: (-score, size, 1 / speedup) for number, (score, size, speedup) in enumerate(points, 1)}
    for stays in on:
        assert not any(beats(lower[other], lower[stays]) for other in lower if other not in on)
