"""What people see of a search: a line for each trial, the table, the plot, and MLflow's and Prefect's pages of it."""

import json
from collections.abc import Sequence

from prefect.artifacts import create_link_artifact, create_table_artifact

from flows.record import made_by
from flows.report import Compression, in_kib, with_ends
from flows.run_name import in_words
from tasks.contract.budget import Budget
from tasks.evidence.evidence import Tried, missed
from tasks.evidence.page import as_table
from tasks.search.front import best, front
from tasks.search.plot import fronts
from tasks.search.space import Space
from tasks.search.study import Asked, Outcome, Trial
from tasks.store import pages, tracking
from tasks.store.pausing import Pause

PLOT, TRIALS = "front.png", "trials.json"
Row = dict[str, str]


def figures_of(files: Sequence[Tried]) -> dict[str, float]:
    """Figures of a trial by the names of metrics: of each target's file, and of the first one's without its name."""
    by_target = {file.target: _figures(file) for file in files}
    named = {f"{target}/{name}": value for target, each in by_target.items() for name, value in each.items()}
    return named | _figures(files[0])


def figures_so_far(files: Sequence[Tried], reached: Pause) -> dict[str, float]:
    """Those of a trial that waits: how far it was trained, and what its files cost."""
    return {"rung_epochs": reached.epoch, "rung_score": reached.score, **_costs(files[0])}


def _figures(file: Tried) -> dict[str, float]:
    return {
        "validation_score": file.accuracy.estimate,
        "validation_drop": file.drop.estimate,
        "validation_drop_high": file.drop.high,
        **_costs(file),
    }


def _costs(file: Tried) -> dict[str, float]:
    times = {"latency_p50_ms": 1000 * file.latency_p50, "speedup": file.speedup.estimate} if file.ran else {}
    return {"size_bytes": file.size_bytes, "integer_share": file.integer_share, **times}


def said(trial: Trial, space: Space) -> str:
    """A line about a trial that was told, or waits."""
    outcome = trial.outcome
    tried = f"trial {trial.number} of {space.trials}, {_tried(trial, space)}"
    if outcome.how == "failed":
        return f"{tried}: refused: {outcome.why}"
    size, time = in_kib(outcome.files[0].size_bytes), _time(outcome.files[0])
    if outcome.how == "rejected":
        return f"{tried}: not trained, {outcome.why} ({size}, {time})"
    if outcome.reached:
        how = outcome.why or f"waits {outcome.reached.sentence}"
        return f"{tried}: {how} ({size}, {time})"
    return f"{tried}: drop {_drop(outcome)}, {size}, {time}; {_verdict(outcome)}"


def present(
    trials: Sequence[Trial], space: Space, budget: Budget, run: str, compression: Compression | None = None
) -> list[Row]:
    """Put the search as it is now on its page in MLflow, and at its end on Prefect's; gives the table.

    Args:
        trials: what was tried.
        space: of what.
        budget: that is held.
        run: the search's in MLflow.
        compression: what was registered, at its end.

    """
    taken, unbeaten = best(trials, space.aims, budget), front(trials, space.aims)
    rows = [
        {
            "trial": f"{trial.number}{' *' if trial == taken else ''}",
            "settings": _tried(trial, space),
            **({"epochs": _epochs(trial.outcome)} if space.rungs else {}),
            **_row(trial.outcome),
            "front": "yes" if trial in unbeaten else "",
        }
        for trial in sorted(trials, key=lambda trial: trial not in unbeaten)
    ]
    tracking.log_figure(run, fronts(trials, space.aims, taken, budget.accuracy_of()[1]), PLOT)
    kept = [
        {"number": trial.number, "settings": trial.settings, "outcome": trial.outcome.model_dump(mode="json")}
        for trial in trials
    ]
    tracking.log_text(run, json.dumps(kept, indent=1) + "\n", TRIALS)
    tracking.log_metrics(run, {"trials": len(trials), "inside": sum(trial.outcome.inside for trial in trials)})
    plot = pages.ui_url(run, PLOT)
    links = [f"[the front]({plot})"]
    if compression:
        links.insert(0, f"[{compression.uri}]({compression.version_url}) was taken")
        tracking.set_tags(run, {"slimline.version": compression.uri})
        create_table_artifact(rows, key="trials", description="A star marks the one that was taken.")
        create_link_artifact(plot, "The front", key="front", description="What every trial costs, and how right it is.")
    tracking.set_tags(run, {tracking.NOTE: f"{made_by()}\n\n{' · '.join(links)}\n\n{as_table(rows)}"})
    return rows


def nothing_inside(trials: Sequence[Trial]) -> str:
    """What is said where no trial keeps the budget: the nearest one, and the way out."""
    measured = [trial for trial in trials if trial.outcome.how in ("measured", "rejected")]
    if not measured:
        return f"none of {len(trials)} trials could be made; the first one: {trials[0].outcome.why}"
    nearest = min(measured, key=lambda trial: max(trial.outcome.misses.values(), default=0))
    return (
        f"none of {len(trials)} trials is inside the budget; trial {nearest.number} "
        f"({', '.join(in_words(nearest.settings))}) is the nearest, and misses {missed(nearest.outcome.misses)}. Try "
        "more (--trials), widen the space, or loosen the budget"
    )


def _tried(trial: Asked, space: Space) -> str:
    """What a trial has other than the next one may have: settings of one value are in all, or follow from another."""
    only = {name for name, choice in space.settings.items() if len(choice.values) == 1}
    return ", ".join(in_words({name: value for name, value in trial.settings.items() if name not in only}))


def _row(outcome: Outcome) -> Row:
    first = outcome.files[0] if outcome.files else None
    return {
        "drop (interval)": _drop(outcome) if outcome.how == "measured" else "",
        "size": in_kib(first.size_bytes) if first else "",
        "p50": _time(first) if first else "",
        "speed-up": f"{first.speedup.estimate:.2f}x" if first and first.ran else "",
        "budget": _verdict(outcome),
    }


def _epochs(outcome: Outcome) -> str:
    """How many of one that was stopped were trained; nothing of others, which had what their recipe asks for."""
    return f"{outcome.reached.epoch}/{outcome.reached.epochs}" if outcome.reached else ""


def _verdict(outcome: Outcome) -> str:
    if outcome.how == "measured":
        return "inside" if outcome.inside else f"misses {missed(outcome.misses)}"
    return outcome.why.partition("\n")[0]


def _drop(outcome: Outcome) -> str:
    drop = outcome.files[0].drop
    return with_ends(drop.estimate, drop.low, drop.high)


def _time(file: Tried) -> str:
    return f"{1000 * file.latency_p50:.3f} ms" if file.ran else "not run"
