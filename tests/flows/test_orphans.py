"""What died without a word is closed by the next command, in MLflow and in Prefect."""

import os
import subprocess
import sys

from command_line import ROOT
from prefect import flow
from prefect.client.orchestration import get_client

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
        print(flow_run.id, run, child, flush=True)
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
    flow_run, *runs = died.stdout.split()
    statuses = [tracking.client().get_run(run).info.status for run in runs]
    assert statuses == ["RUNNING", "RUNNING"]
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run).state.name == "Running"
        mine = living()
        assert client.read_flow_run(flow_run).state.name == "Crashed"
    assert [tracking.client().get_run(run).info.status for run in runs] == ["KILLED", "KILLED"]
    assert tracking.client().get_run(mine).info.status == "FINISHED"


def test_a_process_is_gone_only_if_it_was_one_of_this_machine():
    here, number, began = process.this_process().split(" ")
    assert not process.is_gone(process.this_process())
    assert process.is_gone(f"{here} {number} 2026-01-01T00:00:00.000+00:00"), "the number is used again"
    assert not process.is_gone(f"elsewhere/1 {number} {began}")
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert process.is_gone(f"{here} {ended.pid} {began}")
