"""What died without a word is closed by the next command, in MLflow and in Prefect."""

import os
import subprocess
import sys
from datetime import timedelta

from command_line import ROOT
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.states import Pending

from flows import orphans
from flows.promote import _put_back
from flows.record import recorded
from tasks.store import process, tracking

DYING = """
import os, signal, subprocess
from prefect import flow
from prefect.runtime import flow_run
from flows.record import recorded
from tasks.store import tracking

@flow(name="dying")
def dying():
    with recorded("promotion", "dying", {}) as run:
        child = tracking.start_run("compare", {tracking.ROLE: "stage"}, {}, run)
        model = tracking.client().create_logged_model(tracking.experiment(), name="half", source_run_id=child)
        print(flow_run.id, model.model_id, run, child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

dying()
"""


@flow(name="living")
def living() -> str:
    with recorded("promotion", "living", {}) as run:
        return run


def test_what_has_no_process_left_is_closed_by_the_next_flow_run(store, prefect_server):
    command = [sys.executable, "-c", DYING]
    died = subprocess.run(command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, text=True)
    assert died.returncode == -9
    flow_run, model, *runs = died.stdout.split()
    statuses = [tracking.client().get_run(run).info.status for run in runs]
    assert statuses == ["RUNNING", "RUNNING"]
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run).state.name == "Running"
        mine = living()
        assert client.read_flow_run(flow_run).state.name == "Crashed"
    assert [tracking.client().get_run(run).info.status for run in runs] == ["KILLED", "KILLED"]
    assert tracking.client().get_logged_model(model).status == "FAILED", "its files will not arrive"
    assert tracking.client().get_run(mine).info.status == "FINISHED"


EARLY = """
import os, signal, time
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.runtime import flow_run, task_run
from flows.orphans import say_process

@task
def at_work():
    print(flow_run.id, task_run.id, flush=True)
    mine = TaskRunFilter(id=TaskRunFilterId(any_=[task_run.id]))
    with get_client(sync_client=True) as client:
        while not client.read_task_runs(task_run_filter=mine):  # Prefect tells its server in a thread of its own
            time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

@flow(name="early", on_running=[say_process])
def early():
    at_work()

early()
"""


def test_so_is_what_died_before_mlflow_heard_of_it_with_its_tasks(store, prefect_server):
    died = subprocess.run(
        [sys.executable, "-c", EARLY], cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, text=True
    )
    assert died.returncode == -9
    flow_run, task_run = died.stdout.split()
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run).state.name == "Running"
        _put_back("tiny")  # what a promotion begins with, also one that has nothing to promote
        assert client.read_flow_run(flow_run).state.name == "Crashed"
        assert client.read_task_run(task_run).state.name == "Crashed"


@flow(name="promote")
def ours() -> None:
    """As Prefect knows a run of it that has not begun to run."""


@flow(name="nightly")
def others() -> None:
    """Of somebody who uses our server too."""


def test_so_is_what_died_before_it_began_to_run_where_the_server_is_our_own(store, prefect_server, monkeypatch):
    with get_client(sync_client=True) as client:
        mine, theirs = (client.create_flow_run(each, state=Pending()) for each in (ours, others))
        living()
        assert client.read_flow_run(mine.id).state.name == "Pending", "it may just be about to begin"
        monkeypatch.setattr(orphans, "SILENT", timedelta(0))
        living()
        names = [client.read_flow_run(run.id).state.name for run in (mine, theirs)]
    assert names == ["Crashed", "Pending"]


def test_our_flows_are_known_by_their_names():
    from flows import compression, deploy, monitor, promote, search, sensitivity, verify

    modules = (compression, deploy, monitor, promote, search, sensitivity, verify)
    stories = {each for module in modules for each in vars(module).values() if isinstance(each, Flow)}
    assert {story.name for story in stories} == set(orphans.FLOWS)
    assert all(orphans.say_process in story.on_running_hooks for story in stories)


def test_a_process_is_gone_only_if_it_was_one_of_this_machine():
    here, number, began = process.this_process().split(" ")
    assert not process.is_gone(process.this_process())
    assert process.is_gone(f"{here} {number} 2026-01-01T00:00:00.000+00:00"), "the number is used again"
    assert not process.is_gone(f"elsewhere/1 {number} {began}")
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert process.is_gone(f"{here} {ended.pid} {began}")
