"""Ctrl-C at a terminal: soon over at any moment, nothing left behind, and the same command goes on."""

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
import yaml
from command_line import ROOT
from mlflow import MlflowClient
from postgres import free_port
from pydantic import BaseModel
from registered import RECIPE
from servers import until
from stores import forget
from terminal import CTRL_C, Terminal

from tasks.contract.artifact import ModelArtifact
from tasks.store import tracking
from tasks.store.killed_runs import close_dead, kill_runs
from tasks.store.stage import StageRun, stage

LIMIT = 300  # seconds for anything on a machine that does much else
SOON = 15  # seconds that Ctrl-C may take there; on a machine at rest 5 are promised, and 1 or 2 are seen
EPOCHS = 40
SETTINGS = {
    **RECIPE,
    "data": {"reader": "digits", "limit": 600, "test": 0.25},
    "teacher": {**RECIPE["teacher"], "fit": {"epochs": EPOCHS, "batch_size": 32, "learning_rate": 0.001}},
    "budget": {"max_accuracy_drop": 1.0, "min_size_ratio": 0, "min_integer_share": 0},
}


def recipe_in(folder: Path) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    return file


def at_terminal(home: Path, *command: str, **environment: str) -> Terminal:
    mine = {"SLIMLINE_HOME": str(home / "state"), "TMPDIR": str(home), **environment}
    return Terminal(list(command), cwd=ROOT, environment=mine)


def run(recipe: Path) -> Terminal:
    return at_terminal(recipe.parent, sys.executable, "-m", "flows.cli", "run", str(recipe))


def test_before_there_is_a_command_it_ends_without_a_word(tmp_path):
    """The program is still read in: of what it imports, one takes as long as somebody needs for Ctrl-C."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["slimline"].partition(":")
    (tmp_path / "typer.py").write_text("import time\nopen('reading', 'w').close()\ntime.sleep(300)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(lambda: (tmp_path / "reading").exists(), LIMIT)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=SOON)
    assert (process.returncode, *said) == (130, b"", b"")


def check_left_nothing(terminal: Terminal, home: Path) -> None:
    assert terminal.left() == []
    assert not list(home.glob("slimline-*")), "temporary files"
    assert not terminal.screen.cursor.hidden
    assert "Traceback" not in terminal.text()


def command_shown(terminal: Terminal) -> list[str]:
    """What a person is asked to type, taken from the screen as a person would copy it."""
    *_, above, command = terminal.written()
    assert above.endswith("type the same command:")
    return shlex.split(command)


@pytest.mark.parametrize("later", [0.7, 2.0, 4.0])
def test_while_it_starts(tmp_path, later):
    """Libraries are imported, the database is made, the server comes up; which of them depends on the machine."""
    recipe = recipe_in(tmp_path)
    with run(recipe) as terminal:
        time.sleep(later)
        # on a busy machine it is not yet itself by then: Python has to come as far as the first line of ours
        until(lambda: sum(psutil.Process(terminal.process.pid).cpu_times()[:2]) > 0.5, 60)
        assert terminal.interrupt(SOON)[0] == 130, terminal.text()
        check_left_nothing(terminal, tmp_path)
    assert "slimline: stopped\n" in terminal.text()
    assert command_shown(terminal) == [sys.executable, "-m", "flows.cli", "run", str(recipe)]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A training that was stopped in its middle."""
    recipe = recipe_in(tmp_path_factory.mktemp("interrupted"))
    with run(recipe) as terminal:
        terminal.await_text(rf"^  train-teacher .* ([5-9]|[12]\d)/{EPOCHS}", LIMIT)
        assert terminal.interrupt(SOON)[0] == 130, terminal.text()
        check_left_nothing(terminal, recipe.parent)
    return terminal


@pytest.fixture(scope="module")
def history(interrupted):
    """What each epoch took in the training that was stopped: numbers that no other training has."""
    (run,) = client(interrupted).search_runs(["1"], "attributes.run_name = 'train-teacher'")
    return [point.value for point in client(interrupted).get_metric_history(run.info.run_id, "seconds")]


@pytest.fixture(scope="module")
def gone_on(interrupted, history):
    """The same command again, to its end."""
    with at_terminal(folder(interrupted), *command_shown(interrupted)) as terminal:
        assert terminal.wait(LIMIT) == 0, terminal.text()
        check_left_nothing(terminal, folder(interrupted))
    return terminal


def folder(terminal: Terminal) -> Path:
    return Path(terminal.home).parent


def client(terminal: Terminal) -> MlflowClient:
    return MlflowClient(f"sqlite:///{terminal.home}/mlflow.db")


def epochs_kept(terminal: Terminal) -> int:
    message = rf"slimline: stopped; kept: prepare; (\d+) of at most {EPOCHS} epochs of\s+train-teacher\n"
    return int(re.search(message, terminal.text())[1])


def test_in_the_middle_of_a_training_it_says_what_is_kept(interrupted, history):
    assert epochs_kept(interrupted) >= 5
    assert abs(epochs_kept(interrupted) - len(history)) <= 1, "the last one may be shown and not written yet"
    assert "━" not in interrupted.text(), "the bar is gone, and what the key writes with it"


def test_what_was_stopped_is_closed_as_killed(interrupted, history):
    runs = client(interrupted).search_runs(["1"])
    status = {run.info.run_name.partition(":")[0]: run.info.status for run in runs if run.info.end_time}
    assert status["tiny"] == status["train-teacher"] == "KILLED"
    assert status["prepare"] == "FINISHED"
    with sqlite3.connect(Path(interrupted.home) / "prefect" / "prefect.db") as prefect:
        assert ("Crashed",) in prefect.execute("SELECT state_name FROM flow_run").fetchall()


def test_the_same_command_goes_on_from_there(interrupted, history, gone_on):
    assert "✓ prepare: reused from run " in gone_on.text()
    assert "tiny version 1" in gone_on.text()
    finished = "attributes.run_name = 'train-teacher' and attributes.status = 'FINISHED'"
    (run,) = client(gone_on).search_runs(["1"], finished)
    again = [point.value for point in client(gone_on).get_metric_history(run.info.run_id, "seconds")]
    assert len(again) == EPOCHS
    kept = min(epochs_kept(interrupted), len(history))
    assert again[:kept] == history[:kept], "not trained again"


PROGRAM = """
import subprocess, sys, tempfile
from flows.interrupt import EXIT_CODE, heeded, once

def say():
    print("said", flush=True)

with heeded(lambda: print("closed", flush=True), say, lambda: print("stopping", flush=True)):
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    folder = tempfile.mkdtemp()
    print("begun", flush=True)
    try:
        {work}
    except KeyboardInterrupt:
        print("undone", flush=True)
        child.kill()
        once(say)
        sys.exit(EXIT_CODE)
"""
NATIVE = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes, and nothing of Python's in them
LOST = """
        class Lost:
            def __del__(self):
                for _ in range(10**8): pass
        Lost()
        import time; time.sleep(300)
"""


@pytest.mark.parametrize(
    ("work", "presses", "how", "seconds"),
    [
        ("import time; time.sleep(300)", 1, "undone", (0, 2)),
        (LOST.strip(), 1, "undone", (0, 2)),
        (NATIVE, 1, "closed", (2, 5)),
        (NATIVE, 2, "closed", (0, 2)),
    ],
    ids=["in Python", "in a destructor", "in native code", "in native code, twice"],
)
def test_whatever_the_main_thread_does(tmp_path, work, presses, how, seconds):
    program = PROGRAM.replace("{work}", work)
    with at_terminal(tmp_path, sys.executable, "-c", program) as terminal:
        terminal.await_text("begun", 60)
        time.sleep(0.5)
        began = time.monotonic()
        for _ in range(presses - 1):
            terminal.press(CTRL_C)
            time.sleep(0.2)
        assert terminal.interrupt(60)[0] == 130, terminal.text()
        took = time.monotonic() - began
        check_left_nothing(terminal, tmp_path)
    printed = re.findall("undone|closed|said", terminal.text())
    assert printed[0] == how
    assert (printed[-1], printed.count("said")) == ("said", 1)
    least, most = seconds
    assert least <= took < most + 10, f"{most} s on a machine at rest"


SLOWLY = """
import sys, time
from flows import cli, display, grammar, setting_up

class Slow(display.Display):
    def _line(self):
        time.sleep(0.2)  # as on a machine that does much else
        return super()._line()

def work():
    with setting_up.shown() as shown:
        shown.preparing("something long")
        try:
            time.sleep(300)
        except KeyboardInterrupt:
            time.sleep(float(sys.argv[1]))
            raise
    return 0

display.Display = Slow
cli.chosen = lambda typed: grammar.Command(work)
sys.exit(cli.main(["run"]))
"""


@pytest.mark.parametrize("later", [0.85, 0.95, 1.05, 1.3])
def test_the_bar_is_gone_whenever_the_main_thread_takes_it_away(tmp_path, later):
    """A second after the key a person is told to wait; that line and the bar's end may meet."""
    with at_terminal(tmp_path, sys.executable, "-c", SLOWLY, str(later)) as terminal:
        terminal.await_text("something long .*━", 60)
        assert terminal.interrupt(SOON)[0] == 130, terminal.text()
        check_left_nothing(terminal, tmp_path)
    assert "━" not in terminal.text()
    waits = "slimline: stopping; Ctrl-C again does not wait for it\n" in terminal.text()
    assert waits or later < 1.1
    assert len(terminal.text().strip().splitlines()) == 3 + waits, terminal.text()
    assert command_shown(terminal)[-1] == "run"


def test_temporary_files_of_one_that_was_killed_are_removed_by_the_next(tmp_path):
    program = """
import os, signal, sys, tempfile
from flows.interrupt import heeded
with heeded(print, print, print):
    print(os.path.dirname(tempfile.mkdtemp()), flush=True)
    if sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    elsewhere = tmp_path / "slimline-elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".process").write_text("another/1 1 2026-01-01T00:00:00.000+00:00")
    left = []
    for words in (["killed"], []):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert Path(done.stdout.strip()).parent == tmp_path
        left.append(sorted(tmp_path.iterdir()))
    assert len(left[0]) == 2
    assert left[1] == [elsewhere], "what another machine's process may still need stays"


def test_where_sigint_is_ignored_it_stays_so(tmp_path):
    """As in the background of a script, whose own Ctrl-C is not for it."""
    program = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PROGRAM.replace(
        "{work}", "import time; time.sleep(2); child.kill(); print('through')"
    )
    with at_terminal(tmp_path, sys.executable, "-c", program) as terminal:
        terminal.await_text("begun", 60)
        assert terminal.interrupt(60)[0] == 0
    assert "through" in terminal.text()


def test_promote_moves_nothing(gone_on, monkeypatch):
    with at_terminal(folder(gone_on), sys.executable, "-m", "flows.cli", "promote", "tiny") as terminal:
        terminal.await_text("^  compare ", LIMIT)
        assert terminal.interrupt(SOON)[0] == 130, terminal.text()
        check_left_nothing(terminal, folder(gone_on))
    assert "slimline: stopped\n" in terminal.text()
    assert command_shown(terminal)[-2:] == ["promote", "tiny"]
    assert client(gone_on).get_registered_model("tiny").aliases == {"candidate": 1}
    monkeypatch.setenv("SLIMLINE_HOME", str(gone_on.home))
    forget()
    close_dead()  # as every command does: on a busy machine there was no time left to write it down
    forget()
    assert not client(gone_on).search_runs(["1"], "attributes.status = 'RUNNING'")


@pytest.mark.parametrize("presses", [1, 2])
def test_up_while_it_starts(tmp_path, presses):
    environment = {"PREFECT_SERVER_API_PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
    with at_terminal(tmp_path, sys.executable, "-m", "flows.cli", "up", **environment) as terminal:
        terminal.await_text("^starting", LIMIT)
        until(lambda: len(terminal.left()) > 4, 60)  # the supervisor, both servers, and what tells them of the worker
        if presses == 2:
            terminal.press(CTRL_C)
            time.sleep(0.2)
        assert terminal.interrupt(60)[0] == 0, terminal.text()
        assert terminal.left() == []
        assert "Traceback" not in terminal.text()
    assert not (tmp_path / "state" / "up.json").exists()


def test_serve_ends_well(gone_on):
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    command = [sys.executable, "-m", "flows.cli", "serve", "models:/tiny/1", *ports]
    with at_terminal(folder(gone_on), *command) as terminal:
        terminal.await_text("^curl http", LIMIT)
        assert terminal.interrupt(SOON)[0] == 0, terminal.text()
        check_left_nothing(terminal, folder(gone_on))


class Settings(BaseModel, frozen=True):
    """Of a stage."""


@stage("stopped")
def stopped(run: StageRun, settings: Settings) -> ModelArtifact:
    raise KeyboardInterrupt


def test_a_stage_that_is_stopped_leaves_a_killed_run(store, prefect_server):
    with pytest.raises(KeyboardInterrupt):
        stopped(Settings())
    (run,) = tracking.client().search_runs([tracking.experiment()])
    assert run.info.status == "KILLED"


def test_a_process_that_ends_closes_its_own_runs_alone(store):
    flow, other = "6f2a2f4e-0000-4000-8000-000000000001", "6f2a2f4e-0000-4000-8000-000000000002"
    finished, failed = (tracking.start_run(name, {}, {}) for name in ("finished", "failed"))
    tracking.end_run(finished, failed=False)
    try:
        raise ValueError("long before")
    except ValueError:
        tracking.end_run(failed, failed=True)
    pressed = time.time() + 1
    begun = tracking.start_run("begun", {tracking.FLOW_RUN: flow}, {})
    foreign = tracking.start_run("foreign", {tracking.FLOW_RUN: other}, {})
    tracking.set_tags(foreign, {tracking.PROCESS: "another-machine 1 2026-01-01T00:00:00.000+00:00"})
    assert kill_runs(pressed) == [flow]
    status = {run: tracking.client().get_run(run).info.status for run in (finished, failed, begun, foreign)}
    assert status == {finished: "FINISHED", failed: "FAILED", begun: "KILLED", foreign: "RUNNING"}
    assert kill_runs(pressed - 60) == [], "what failed after it was pressed was killed, of whichever flow"
    assert tracking.client().get_run(failed).info.status == "KILLED"
