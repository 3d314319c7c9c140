"""MLflow runs that nobody ended, because what began them was stopped: closed as killed."""

from tasks.store import stage_runs, tracking
from tasks.store.process import this_process


def reopen_run(run_id: str) -> None:
    """Go on with a run that was ended, or whose process is gone; children that were at work then are closed."""
    tracking.client().update_run(run_id, status="RUNNING")
    for child in stage_runs.children(run_id):
        if child.info.status == "RUNNING":
            tracking.client().set_terminated(child.info.run_id, "KILLED")


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
        tracking.client().set_terminated(run.info.run_id, "KILLED")
    return sorted({flow for run in killed if (flow := run.data.tags.get(tracking.FLOW_RUN))})
