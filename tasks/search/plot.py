"""The plot that a person looks at: what every trial costs and how right it is, and which ones no other beats."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.evidence import plots
from tasks.search.front import front, values
from tasks.search.space import Goal
from tasks.search.study import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"size": "Size (KiB, log scale)", "latency": "Median latency, share of the teacher's (log scale)"}
UNITS = {"size": 1024, "latency": 1}
HIGHEST = 4  # limits: what drops further is drawn at the upper edge, where it does not press the others together


def fronts(trials: Sequence[Trial], aims: Sequence[Goal], winner: Trial | None, limit: float) -> "Figure":
    """The drop against each cost among the goals, a point a trial; a line joins those that no other beats in both.

    Filled: inside the budget. Hollow: measured, and not inside. Those that none beats in all goals bear their numbers;
    a star marks the one taken, a dotted line the `limit` of the drop. Crosses at the upper edge were stopped in
    training, where no drop is known; they bear how many of their epochs they had.
    """
    from matplotlib.lines import Line2D

    measured = [trial for trial in trials if trial.outcome.how == "measured"]
    costs = [goal for goal in aims if goal.figure != "accuracy"] or [Goal("", "size")]
    stopped = [trial for trial in trials if trial.outcome.how == "stopped"]
    figure, panels = plots.blank(1, len(costs), width=5 * len(costs), height=4.2)
    unbeaten = {trial.number for trial in front(trials, aims)}
    for panel, goal in zip(panels, costs, strict=True):
        both = (goal, Goal("", "accuracy"))
        figures = {trial.number: values(trial, both) for trial in measured}
        top = HIGHEST * limit if limit else max((drop for _, drop in figures.values()), default=1.0)
        points = {number: (cost / UNITS[goal.figure], min(drop, top)) for number, (cost, drop) in figures.items()}
        at_edge = {trial.number: trial.outcome.value(goal) / UNITS[goal.figure] for trial in stopped}
        if points:
            plots.front_line(panel, list(points.values()), lower=True)
        if along := [*(cost for cost, _ in points.values()), *at_edge.values()]:
            plots.cost_axis(panel, along, f"{goal.target} {TITLES[goal.figure]}".strip())
        if limit:
            panel.axhline(limit, color=plots.INK, linewidth=1, linestyle="dotted", zorder=0)
        for trial in measured:
            taken = winner is not None and trial.number == winner.number
            color = plots.ORANGE if taken else plots.BLUE if trial.number in unbeaten else plots.COLORS["teacher"]
            panel.plot(
                *([each] for each in points[trial.number]),
                marker="*" if taken else "^" if figures[trial.number][1] > top else "o",
                ms=15 if taken else 8,
                color=color,
                markerfacecolor=color if trial.outcome.inside else "none",
                linestyle="none",
                clip_on=False,
            )
            if trial.number in unbeaten:
                panel.annotate(
                    str(trial.number),
                    points[trial.number],
                    xytext=(0, 9),
                    textcoords="offset points",
                    ha="center",
                    size=9,
                )
        for trial in stopped:
            reached = trial.outcome.reached
            assert reached is not None
            color = plots.COLORS["teacher"]
            panel.plot([at_edge[trial.number]], [top], marker="x", ms=7, color=color, linestyle="none", clip_on=False)
            panel.annotate(
                f"{reached.epoch}/{reached.epochs}",
                (at_edge[trial.number], top),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                rotation=90,
                size=7,
            )
    panels[0].set_ylabel("Drop on the validation split")
    keys = [
        Line2D([], [], marker="*", ms=12, linestyle="none", color=plots.ORANGE, label="taken"),
        Line2D([], [], marker="o", linestyle="none", color=plots.BLUE, label="beaten by none"),
        Line2D([], [], marker="o", linestyle="none", color=plots.COLORS["teacher"], label="beaten"),
        Line2D([], [], marker="o", linestyle="none", color=plots.INK, markerfacecolor="none", label="not inside"),
        Line2D([], [], linestyle="dotted", color=plots.INK, label="the budget's limit"),
    ]
    if stopped:
        label = "stopped in training"
        keys.insert(4, Line2D([], [], marker="x", linestyle="none", color=plots.COLORS["teacher"], label=label))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    return figure
