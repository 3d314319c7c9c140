"""Flow runs that were left behind on this machine: their process is gone, and it could not say so.

Every flow run closes what those before it have left (`close_dead`). One of a terminal says first which process it is of
(`say_process`), as it may be killed before MLflow hears of it. Before its workers start, `slimline up` also looks
at flow runs of its work pool that had not come so far as to tell MLflow of themselves (`crash_orphans`). Where several
machines work for a pool, the heartbeat automation of deployments/automations.yaml finds these, as a process id means
nothing on another machine.
"""

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
from prefect import Flow, State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
    WorkPoolFilter,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows import embedded
from flows.servers import FLOWS, POOL
from tasks.store import killed_runs, resumed
from tasks.store.process import is_gone, this_process

BEGUN = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
SAID = re.compile(r"\S+ \d+ \S+")  # by `say_process`: others' programs have words of their own
SILENT = timedelta(minutes=2)  # what lives has said it within a second
MESSAGE = "Its process is gone. Retry the run, and it goes on from the finished stages."


def say_process(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  Prefect's names
    """Tell Prefect of which process a flow run is that no worker began; workers tell it themselves."""
    if not flow_run.deployment_id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, infrastructure_pid=this_process())


def close_dead() -> None:
    """Close what processes of this machine left open when they ended, in MLflow and in Prefect.

    A run that was suspended has no process, and is left for whoever answers; unless Prefect has ended it.
    """
    dead, waiting = killed_runs.close_dead(), resumed.suspended_runs()
    with get_client(sync_client=True) as client:
        for run in [*filter(None, (_read(client, flow_run) for flow_run in dead)), *_of_dead_terminals(client)]:
            if run.state and run.state.type in BEGUN and not _is_suspended(run):
                _crash(client, run)
        for mlflow_run, flow_run in waiting.items():
            read = _read(client, flow_run)
            if read is None or not read.state or read.state.is_final():
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
            _crash(client, run)
    return orphans


def _of_dead_terminals(client: SyncPrefectClient) -> list[FlowRun]:
    """Flow runs that no worker began, whose process was one of this machine and is gone.

    One that was killed before it began to run has not said its process. On a server of our own those of our flows that
    have not for so long are taken for dead.
    """
    begun = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=BEGUN)),
            deployment_id=FlowRunFilterDeploymentId(is_null_=True),
        )
    )
    said = [run for run in begun if SAID.fullmatch(run.infrastructure_pid or "")]
    dead = [run for run in said if is_gone(str(run.infrastructure_pid))]
    if embedded.is_own_server():
        late = datetime.now(UTC) - SILENT
        silent = [run for run in begun if not run.infrastructure_pid and run.created and run.created < late]
        ours = {each.id for each in client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=FLOWS)))}
        dead += [run for run in silent if run.flow_id in ours]
    return dead


def _crash(client: SyncPrefectClient, run: FlowRun) -> None:
    """Mark a flow run as crashed, and those of its tasks that were at work."""
    at_work = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=BEGUN))),
    )
    for task_run in at_work:
        client.set_task_run_state(task_run.id, Crashed(message=MESSAGE), force=True)
    client.set_flow_run_state(run.id, Crashed(message=MESSAGE), force=True)


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
