"""The runs that are children of one run in MLflow: the stages of a compression, and how each one's training went."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tasks.store import tracking

if TYPE_CHECKING:
    from tasks.store.tracking import Run

REUSED = "slimline.reused."  # tag on the parent run: which run a stage's artifact came from


class StageRecord(BaseModel, frozen=True):
    """How one stage of a compression went."""

    stage: str
    seconds: float
    run: str
    reused: bool


def stages_of(parent: str) -> list[StageRecord]:
    """Every stage of a compression, reused ones included, in the order in which they ended."""
    made = {
        run.info.run_id: (run.info.end_time, run.info.run_name, (run.info.end_time - run.info.start_time) / 1000, False)
        for run in children(parent)
        if run.info.status == "FINISHED"
    }
    notes = {
        name.removeprefix(REUSED): json.loads(value)
        for name, value in tracking.client().get_run(parent).data.tags.items()
        if name.startswith(REUSED)
    }
    # a flow run that is retried finds what it made itself before: that is no reuse
    reused = {
        note["run"]: (note["at"], name, note["seconds"], True)
        for name, note in notes.items()
        if note["run"] not in made
    }
    return [
        StageRecord(stage=name, seconds=seconds, run=run, reused=again)
        for run, (_, name, seconds, again) in sorted((made | reused).items(), key=lambda item: item[1][0])
    ]


def newest(tags: Mapping[str, str]) -> str:
    """The newest run that bears all of these tags, and was not deleted; empty if none does."""
    runs = tracking.client().search_runs(
        [tracking.experiment()],
        " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items()),
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else ""


def children(parent: str) -> "list[Run]":
    """The runs that a run is the parent of, in the order in which they began."""
    return list(
        tracking.client().search_runs(
            [tracking.experiment()],
            f"tags.`mlflow.parentRunId` = '{parent}'",
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        )
    )


def epochs_of(run: str) -> list[dict[str, float]]:
    """The figures of each epoch of a stage that trained, in order; empty if it did not train.

    A training that went on after it was killed logged some epochs twice: the last counts.
    """
    by_epoch: dict[int, dict[str, float]] = {}
    logged = tracking.client().get_run(run).data.metrics
    for name in {"loss", "score", "validation_loss", "validation_score"} & logged.keys():
        for point in tracking.client().get_metric_history(run, name):
            by_epoch.setdefault(point.step, {})[name] = point.value
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]
