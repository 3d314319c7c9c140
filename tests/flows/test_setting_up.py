"""The seconds before a flow run: what is said of them, at a terminal and in a file."""

import io
import re

import pytest
from rich.console import Console

from flows import embedded, setting_up
from flows.display import MARGIN, Display, Work, line
from tasks.contract.progress import listen, listener
from tasks.store import tracking


@pytest.fixture
def console():
    before = listener()
    yield Console(file=io.StringIO(), width=80)
    listen(before)


def said(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_a_file_gets_a_line_for_each_step(store, console):
    (store / "mlflow.db").unlink()
    with setting_up.shown(console) as display:
        assert listener() is display
        setting_up.finish(setting_up.NOTHING, display)
    assert said(console) == ["  loading libraries …", "  making MLflow's database …", "  starting the flow …"]
    assert (store / "mlflow.db").is_file()


def test_a_store_that_is_there_is_opened(store, console):
    setting_up.finish(setting_up.NOTHING, Display(console))
    assert said(console) == ["  opening MLflow …", "  starting the flow …"]
    assert tracking.experiment()


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A command's process in a new state folder, where no server is up; what it starts is ended."""
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", "")  # so that what `start_server` sets is undone
    started = []
    yield started
    for starting in started:
        starting.server.kill()
        starting.server.wait()


@pytest.mark.parametrize("kept", [True, False], ids=["blank database at hand", "none at hand"])
def test_whether_prefect_makes_its_database_is_known_when_its_server_starts(alone, tmp_path, monkeypatch, kept):
    blank = tmp_path / "blank.db"
    if kept:
        blank.touch()
    monkeypatch.setattr(embedded, "_blank", lambda: blank)
    starting = setting_up.start()
    alone.append(starting)
    assert starting.new is not kept


@pytest.mark.parametrize("columns", [40, 80])
def test_the_longest_step_fits_beside_its_clock(columns):
    console = Console(file=io.StringIO(), width=columns)
    console.print(line(Work("waiting for Prefect's server", 0.0), 31, columns - MARGIN))
    assert re.fullmatch(r"  waiting for Prefect's server  (━+  )?0:31 *\n", console.file.getvalue())
