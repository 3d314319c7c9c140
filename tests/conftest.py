"""Real servers and stores: an embedded Prefect server for the session, a fresh SQLite store for each test."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from in_browser import CHROMIUM
from stores import forget

SESSION = Path(tempfile.mkdtemp(prefix="slimline-tests-"))
os.environ["SLIMLINE_HOME"] = str(SESSION / "home")
os.environ["PREFECT_HOME"] = str(SESSION / "prefect")
for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup, and so it would be in all that is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)

from flows import embedded  # noqa: E402  Prefect reads its environment when it is imported

embedded.settle()


# two noisy cores: how long an example takes says nothing
# CI draws the same examples each time, a person new ones
settings.register_profile(
    "noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("noisy")


def pytest_unconfigure() -> None:
    shutil.rmtree(SESSION, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole flow runs first: the files that take minutes would be the last, where one worker has work and none else."""
    items.sort(key=lambda item: item.path.parent.name != "flows")


frozen_at: dict[str, object] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In each file, and where much was imported: garbage collection does not go through what there is by now.

    TensorFlow's converter for LiteRT collects each time, and half of its time went to what is imported.
    """
    now = (item.path, len(sys.modules) // 200)
    if frozen_at.get("now") != now:
        frozen_at["now"] = now
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def prefect_server() -> None:
    """The server that `slimline run` starts for itself, once for all tests that need one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    process = embedded.start_server()
    embedded.await_server(process)
    with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
        yield
    os.environ.pop("PREFECT_API_URL")


@pytest.fixture(scope="session")
def empty_store() -> Path:
    """An MLflow database with its tables made, to copy: making them takes seconds."""
    from tasks.store import tracking

    tracking.client().search_experiments()
    forget()
    return SESSION / "home" / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Iterator[Path]:
    """A state folder of the test's own, with an empty MLflow store in it."""
    home = tmp_path / "state"
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    monkeypatch.setenv("SLIMLINE_HOME", str(home))
    forget()
    yield home
    forget()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a module of its own pages each."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container has not
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield running
        running.close()
