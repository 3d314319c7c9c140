"""Flow runs that were left behind on this machine: their process is gone, and it could not say so.

Run by `slimline up` before its worker starts, where one machine works for the pool. Where several do, the heartbeat
automation of deployments/automations.yaml finds them, as a process id means nothing on another machine.
"""

import contextlib

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from flows.install import POOL

BEGUN = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


def crash_orphans() -> list[FlowRun]:
    """Mark as crashed every run that was begun and has no process any more, so that it can be retried; returns them."""
    with get_client(sync_client=True) as client:
        begun = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=BEGUN))),
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [POOL]}}),
        )
        orphans = [run for run in begun if not _is_there(run)]
        for run in orphans:
            message = "Its process is gone. Retry the run, and it goes on from the finished stages."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return orphans


def _is_there(run: FlowRun) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("prefect" in word for word in psutil.Process(int(run.infrastructure_pid or 0)).cmdline())
    return False


if __name__ == "__main__":
    for run in crash_orphans():
        print(f"{run.name} ({run.id}): its process is gone, marked as crashed")  # noqa: T201  goes to the worker's log
