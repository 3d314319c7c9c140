"""The connection of this process to its store."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def forget() -> None:
    """Drop the connection of the process, as a new process would have none."""
    from tasks.store import tracking

    for cached in (tracking.client, tracking.experiment):
        cached.cache_clear()
    tracking._fetched.clear()
    tracking._parents.clear()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for child processes


@contextmanager
def home_at(state: Path) -> Iterator[Path]:
    """A state folder that is this process' own meanwhile, with its store."""
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(state)
    forget()
    try:
        yield state
    finally:
        os.environ["SLIMLINE_HOME"] = before
        forget()


def run_at(url: str) -> str:
    """The id of the run whose page in MLflow is at an address."""
    return re.search(r"/runs/(\w+)", url)[1]
