"""Where the points of a search's plot lie, and which marks they have."""

from made_outcomes import outcome, waiting

from tasks.search.plot import fronts
from tasks.search.space import Goal
from tasks.search.study import Trial

AIMS = (Goal("", "accuracy"), Goal("", "size"), Goal("", "latency"))
LIMIT = 0.02


def marks(panel) -> dict[tuple[float, float], tuple[str, bool]]:
    """By place: the mark, and whether it is filled."""
    points = [line for line in panel.get_lines() if len(line.get_xdata()) == 1]
    return {
        (float(line.get_xdata()[0]), round(float(line.get_ydata()[0]), 6)): (
            line.get_marker(),
            line.get_markerfacecolor() != "none",
        )
        for line in points
    }


def test_each_trial_is_where_its_cost_and_its_drop_are():
    trials = [
        Trial(1, {}, outcome(drop=0.01, size=2048, speedup=2)),
        Trial(2, {}, outcome(drop=0.03, size=1024, speedup=4, misses={"max_accuracy_drop": 0.5})),
        Trial(3, {}, outcome(drop=0.5, size=512, speedup=5, misses={"max_accuracy_drop": 0.9})),
        Trial(4, {}, outcome(how="rejected", drop=0, size=9999, speedup=1, misses={"max_size_bytes": 0.5})),
    ]
    figure = fronts(trials, AIMS, trials[0], LIMIT)
    sizes, times = figure.axes
    assert marks(sizes) == {(2, 0.01): ("*", True), (1, 0.03): ("o", False), (0.5, 4 * LIMIT): ("^", False)}
    assert marks(times) == {(0.5, 0.01): ("*", True), (0.25, 0.03): ("o", False), (0.2, 4 * LIMIT): ("^", False)}
    assert [text.get_text() for text in sizes.texts] == ["1", "2", "3"], "none beats these"
    assert [line.get_ydata()[0] for line in sizes.get_lines() if line.get_linestyle() == ":"] == [LIMIT]


def test_without_a_cost_among_the_goals_it_is_size_and_without_a_limit_all_are_inside():
    trials = [
        Trial(1, {}, outcome(drop=7.5, size=1024, speedup=2)),
        Trial(2, {}, outcome(drop=1, size=2048, speedup=2)),
    ]
    (panel,) = fronts(trials, AIMS[:1], None, 0).axes
    assert marks(panel) == {(1, 7.5): ("o", True), (2, 1): ("o", True)}


def test_who_was_stopped_is_a_cross_at_the_upper_edge_with_its_epochs():
    stopped = waiting(score=0.8, size=3072, speedup=2).model_copy(update={"how": "stopped", "why": "stopped"})
    kept = Trial(1, {}, outcome(drop=0.01, size=1024, speedup=4))
    (panel,) = fronts([kept, Trial(2, {}, stopped)], AIMS[:2], kept, LIMIT).axes
    assert marks(panel) == {(1, 0.01): ("*", True), (3, 4 * LIMIT): ("x", True)}
    assert [text.get_text() for text in panel.texts] == ["1", "3/20"]
    low, high = panel.get_xlim()
    assert low < 1 < 3 < high
    (alone,) = fronts([Trial(2, {}, stopped)], AIMS[:2], None, LIMIT).axes
    assert set(marks(alone)) == {(3, 4 * LIMIT)}, "none was measured yet"
