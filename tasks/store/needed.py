"""Which runs somebody still needs: a registered version, an alias, or a run that is young, at work or suspended."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from tasks.store import registry, tracking
from tasks.store.resumed import SUSPENDED
from tasks.store.stage_runs import REUSED

OPEN = ("RUNNING", SUSPENDED)  # what a process is at, or a person has yet to answer
MOVES = ("promotion", "rollback")  # flow runs that moved an alias: the trail of who served when


@dataclass(frozen=True)
class KeptRun:
    """A run of ours in MLflow, as far as it matters for whether it may go.

    parent: the run that it is a stage of, or "". status: MLflow's word. last: when it began, ended or its artifact was
    reused, whichever came last, in seconds since 1970. used: the tag `tracking.USED` as it is. moves: the registered
    model whose aliases it moved, or "". reused: the runs whose artifacts its stages took. places: by the id of each
    logged model, and by "" for the run itself, the address of its files. deleted: whether it is marked so.
    """

    run: str
    name: str
    role: str
    parent: str
    flow_run: str
    status: str
    last: float
    used: str
    moves: str
    reused: frozenset[str]
    places: dict[str, str]
    deleted: bool


def our_runs() -> list[KeptRun]:
    """Every run of ours in the experiment; a run that others made there bears no role, and is none of our business."""
    places: dict[str, dict[str, str]] = {}
    for model in tracking.paged(partial(tracking.client().search_logged_models, [tracking.experiment()])):
        places.setdefault(model.source_run_id or "", {})[model.model_id] = model.artifact_location
    found = []
    for run in tracking.every_run():
        tags, info = run.data.tags, run.info
        if tracking.ROLE not in tags:
            continue
        role, used = tags[tracking.ROLE], tags.get(tracking.USED, "")
        found.append(
            KeptRun(
                run=info.run_id,
                name=info.run_name,
                role=role,
                parent=tags.get("mlflow.parentRunId", ""),
                flow_run=tags.get(tracking.FLOW_RUN, ""),
                status=info.status,
                last=max(info.start_time / 1000, (info.end_time or 0) / 1000, float(used or 0)),
                used=used,
                moves=run.data.params.get("name", "") if role in MOVES and info.status == "FINISHED" else "",
                reused=frozenset(json.loads(tags[tag])["run"] for tag in tags if tag.startswith(REUSED)),
                places={"": info.artifact_uri, **places.get(info.run_id, {})},
                deleted=info.lifecycle_stage != "active",
            )
        )
    return found


def needed(
    runs: Sequence[KeptRun], versions: Sequence[registry.Registered], named: Collection[str], since: float
) -> set[str]:
    """The ids of the runs that have to stay.

    A run stays for itself if the registry names it, its flow run or a model of it; if a version was made by a stage of
    it; if it moved the aliases of a model that there is; if it is at work, suspended, or younger than the limit. With
    it stay its stages, and those whose artifacts these reused: the same recipe finds all of them again. A stage that
    stays keeps the run that it is a stage of, alone.

    Args:
        runs: all of them.
        versions: all registered ones.
        named: ids that the registry names.
        since: a run that was at something after this time, in seconds since 1970, is young; so is one whose artifact
            was reused after it.

    """
    by_id = {run.run: run for run in runs}
    models, made = {version.name for version in versions}, {version.run for version in versions}
    stages: dict[str, set[str]] = {}
    for run in runs:
        stages.setdefault(run.parent, set()).add(run.run)
    roots = {
        run.run
        for run in runs
        if any(each in named for each in (run.run, run.flow_run, *run.places))
        or run.moves in models
        or run.status in OPEN
        or run.last >= since
    }
    roots |= {by_id[run].parent for run in made & by_id.keys()} & by_id.keys()
    stay = roots | {each for root in roots for each in (*stages.get(root, ()), *by_id[root].reused)} & by_id.keys()
    return stay | {by_id[each].parent for each in stay} & by_id.keys()


def sorted_out(since: float) -> tuple[list[KeptRun], list[KeptRun]]:
    """The runs that may go, and those that stay, as the store is now."""
    runs = our_runs()  # before the registry: whatever is registered meanwhile is young
    stay = needed(runs, registry.versions_of(), registry.named_ids(), since)
    return [run for run in runs if run.run not in stay], [run for run in runs if run.run in stay]
