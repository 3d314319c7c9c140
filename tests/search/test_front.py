"""Which trials none beats, and which one is taken."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from made_outcomes import outcome

from tasks.contract.budget import Budget
from tasks.search.front import best, front, seems_inside, values
from tasks.search.space import Goal
from tasks.search.study import Outcome, Trial

AIMS = (Goal("", "accuracy"), Goal("", "size"), Goal("", "latency"))


def trials(*outcomes: Outcome) -> list[Trial]:
    return [Trial(number, {}, each) for number, each in enumerate(outcomes, 1)]


def numbers(found: list[Trial]) -> list[int]:
    return [trial.number for trial in found]


def test_the_front_is_what_none_beats():
    tried = trials(
        outcome(drop=0.01, size=100, speedup=2),
        outcome(drop=0.02, size=100, speedup=2),  # beaten by the first
        outcome(drop=0.00, size=300, speedup=1),
        outcome(drop=0.03, size=50, speedup=1),
        outcome(how="rejected", drop=0, size=1, speedup=100),
        Outcome(how="failed", why="so"),
    )
    assert numbers(front(tried, AIMS)) == [1, 3, 4]
    assert numbers(front(tried, AIMS[1:2])) == [4], "of one goal the best alone"


point = st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))


@given(st.lists(point, min_size=1, max_size=12))
def test_by_its_definition(points):
    tried = trials(*(outcome(drop=drop / 100, size=size, speedup=speed) for drop, size, speed in points))
    figures = {trial.number: values(trial, AIMS) for trial in tried}
    kept = set(numbers(front(tried, AIMS)))
    for one, other in product(figures, figures):
        beaten = (
            all(a <= b for a, b in zip(figures[one], figures[other], strict=True)) and figures[one] != figures[other]
        )
        assert not (beaten and other in kept)
    for number in set(figures) - kept:
        assert any(all(a <= b for a, b in zip(figures[each], figures[number], strict=True)) for each in kept)


def test_the_cheapest_inside_the_budget_is_taken():
    tried = trials(
        outcome(drop=0.00, size=300, speedup=1),
        outcome(drop=0.01, size=100, speedup=2),
        outcome(drop=0.01, size=90, speedup=1.9),  # 90 / 1.9 is less than 100 / 2
        outcome(drop=0.05, size=10, speedup=9, misses={"max_accuracy_drop": 0.6}),
    )
    taken = best(tried, AIMS, Budget())
    assert taken is not None
    assert taken.number == 3
    accurate = best(tried, AIMS[:1], Budget())
    assert accurate is not None
    assert accurate.number == 1, "where accuracy alone is a goal"


def test_where_no_interval_can_be_inside_the_measured_drop_counts():
    budget = Budget(max_accuracy_drop=0.02)
    tried = trials(
        outcome(drop=0.01, size=100, speedup=2, misses={"max_accuracy_drop": 0.4}),
        outcome(drop=0.03, size=50, speedup=3, misses={"max_accuracy_drop": 0.6}),
        outcome(drop=0.01, size=40, speedup=3, misses={"max_accuracy_drop": 0.4, "min_size_ratio": 0.1}),
    )
    assert [seems_inside(trial.outcome, budget) for trial in tried] == [True, False, False]
    taken = best(tried, AIMS, budget)
    assert taken is not None
    assert taken.number == 1
    assert best(tried[1:], AIMS, budget) is None


def test_a_goal_is_a_figure_of_its_target_s_file():
    first = outcome(drop=0.01, size=100, speedup=2).files[0]
    other = first.model_copy(update={"target": "litert", "size_bytes": 70})
    both = Outcome(how="measured", files=(first, other))
    assert both.value(Goal("", "size")) == both.value(Goal("onnxruntime", "size")) == 100
    assert both.value(Goal("litert", "size")) == 70
    assert both.value(Goal("", "latency")) == 0.5, "a share of the teacher's"
    missing = other.model_copy(update={"inside": False, "misses": {"max_accuracy_drop": 0.2}})
    both = Outcome(how="measured", files=(first, missing))
    assert not both.inside
    assert both.misses == {"max_accuracy_drop": 0.2}
