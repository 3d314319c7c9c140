"""MLflow runs that nobody ended, because what began them was stopped: closed as killed."""

from collections.abc import Sequence
from typing import Any

from tasks.store import stage_runs, tracking
from tasks.store.process import is_gone, this_machine, this_process


def reopen_run(run_id: str) -> None:
    """Go on, in this process, with a run that was ended or suspended; children that were at work then are closed."""
    tracking.set_tags(run_id, {tracking.PROCESS: this_process()})
    tracking.client().update_run(run_id, status="RUNNING")
    for child in stage_runs.children(run_id):
        if child.info.status == "RUNNING":
            kill(child.info.run_id)


def kill(run_id: str) -> None:
    """Close a run as killed, and what it was keeping as failed."""
    tracking.close_models(run_id)
    tracking.client().set_terminated(run_id, "KILLED")


def close_dead() -> list[str]:
    """Close, as killed, what processes of this machine began and did not end; gives the flow runs that it was for.

    Whoever ends a process cannot always write that down: it is killed, or has no time left. This needs neither.
    """
    here = f"attributes.status = 'RUNNING' and tags.`{tracking.PROCESS}` LIKE '{this_machine()} %'"
    begun = tracking.client().search_runs([tracking.experiment()], here, max_results=1000)
    dead = [run for run in begun if is_gone(run.data.tags[tracking.PROCESS])]
    for run in dead:
        kill(run.info.run_id)
    return _flow_runs(dead)


def kill_runs(since: float) -> list[str]:
    """Close what this process has begun and not ended, as killed; gives the Prefect flow runs that it was for.

    For a process that is about to end: what stops it may come between the start of a run and what would end it, and
    libraries make errors of their own of it. So what has failed `since` then (a time) was killed too.
    """
    if not tracking.experiment.cache_info().currsize:  # then it has begun nothing, and may be at making the database
        return []
    mine = f"attributes.status != 'FINISHED' and tags.`{tracking.PROCESS}` = '{this_process()}'"
    killed = [
        run
        for run in tracking.client().search_runs([tracking.experiment()], mine, max_results=1000)
        if run.info.status == "RUNNING" or (run.info.status == "FAILED" and run.info.end_time >= since * 1000)
    ]
    for run in killed:
        kill(run.info.run_id)
    return _flow_runs(killed)


def _flow_runs(runs: Sequence[Any]) -> list[str]:
    return sorted({flow for run in runs if (flow := run.data.tags.get(tracking.FLOW_RUN))})
