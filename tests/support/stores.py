"""The connection of this process to its store."""

import os
import re


def forget() -> None:
    """Drop the connection of the process, as a new process would have none."""
    from tasks.store import tracking

    for cached in (tracking.client, tracking.experiment):
        cached.cache_clear()
    tracking._fetched.clear()
    tracking._parents.clear()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for child processes


def run_at(url: str) -> str:
    """The id of the run whose page in MLflow is at an address."""
    return re.search(r"/runs/(\w+)", url)[1]
