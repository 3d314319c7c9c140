"""Flow runs that were left behind on this machine: their process is gone, and it could not say so.

Every flow run closes what those before it have left (`close_dead`). Before its workers start, `slimline up` also looks
at flow runs of its work pool that had not come so far as to tell MLflow of themselves (`crash_orphans`). Where several
machines work for a pool, the heartbeat automation of deployments/automations.yaml finds these, as a process id means
nothing on another machine.
"""

import contextlib
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.servers import POOL
from tasks.store import killed_runs, resumed

BEGUN = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
MESSAGE = "Its process is gone. Retry the run, and it goes on from the finished stages."


def close_dead() -> None:
    """Close what processes of this machine left open when they ended, in MLflow and in Prefect.

    A run that was suspended has no process, and is left for whoever answers; unless Prefect has ended it.
    """
    dead, waiting = killed_runs.close_dead(), resumed.suspended_runs()
    if not dead and not waiting:
        return
    with get_client(sync_client=True) as client:
        for flow_run in dead:
            run = _read(client, flow_run)
            if run and run.state and run.state.type in BEGUN and not _is_suspended(run):
                client.set_flow_run_state(run.id, Crashed(message=MESSAGE), force=True)
        for mlflow_run, flow_run in waiting.items():
            run = _read(client, flow_run)
            if run is None or not run.state or run.state.is_final():
                killed_runs.kill(mlflow_run)


def crash_orphans() -> list[FlowRun]:
    """Mark as crashed every run that was begun and has no process any more, so that it can be retried; returns them."""
    with get_client(sync_client=True) as client:
        begun = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=BEGUN))),
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [POOL]}}),
        )
        orphans = [run for run in begun if not _is_suspended(run) and not _is_there(run)]
        for run in orphans:
            client.set_flow_run_state(run.id, Crashed(message=MESSAGE), force=True)
    return orphans


def _read(client: SyncPrefectClient, flow_run: str) -> FlowRun | None:
    with contextlib.suppress(ObjectNotFound, ValueError):  # of another server, or deleted
        return client.read_flow_run(UUID(flow_run))
    return None


def _is_suspended(run: FlowRun) -> bool:
    """Whether it waits for a person without a process: any worker goes on with it when they have answered."""
    return bool(run.state and run.state.is_paused() and run.state.state_details.pause_reschedule)


def _is_there(run: FlowRun) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("prefect" in word for word in psutil.Process(int(run.infrastructure_pid or 0)).cmdline())
    return False


if __name__ == "__main__":
    for run in crash_orphans():
        print(f"{run.name} ({run.id}): its process is gone, marked as crashed")  # noqa: T201  goes to the worker's log
    close_dead()
