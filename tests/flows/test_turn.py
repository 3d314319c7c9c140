"""What measures on one machine takes turns, also where its workers have a state folder each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT

PROGRAM = """
from flows.turn import machine_alone
from tasks.contract import progress

class Said(progress.RunLog):
    def note(self, stage, message):
        print(message, flush=True)

progress.listen(Said())
with machine_alone("here"):
    print("has it", flush=True)
    input()
"""


def worker(home: Path, machine: Path | None) -> "subprocess.Popen[str]":
    environment = {**os.environ, "SLIMLINE_HOME": str(home)}
    environment.pop("SLIMLINE_MACHINE", None)
    if machine:
        environment["SLIMLINE_MACHINE"] = str(machine)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, **pipes)


@pytest.mark.parametrize("shared", [True, False])
def test_two_state_folders_of_one_machine(tmp_path, shared):
    machine = tmp_path / "machine" if shared else None
    with worker(tmp_path / "one", machine) as one:
        assert one.stdout.readline() == "has it\n"
        with worker(tmp_path / "two", machine) as two:
            if shared:
                assert two.stdout.readline().startswith("another run has this machine, and this one waits for it")
                one.communicate("\n")
            assert two.stdout.readline() == "has it\n"
            two.communicate("\n")
        if not shared:
            one.communicate("\n")
    assert one.returncode == two.returncode == 0
