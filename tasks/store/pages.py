"""Where a browser finds what is kept: the pages of MLflow's UI."""

import os
from urllib.parse import urlsplit

from tasks.store import tracking

MODEL_TRAINING = "workflowType=machine_learning"  # of MLflow's two menus: the other is about language models


def ui_url(run_id: str = "", artifact: str = "") -> str:
    """Where a browser finds the experiment, a run, or an artifact of a run."""
    run = f"/runs/{run_id}" if run_id else ""
    return _page(f"experiments/{tracking.experiment()}{run}" + (f"/artifacts/{artifact}" if artifact else ""))


def version_url(name: str, version: int) -> str:
    """Where a browser finds a version of a registered model."""
    return _page(f"models/{name}/versions/{version}")


def _page(route: str) -> str:
    """A page of MLflow's UI: on the tracking server, or on `mlflow server` at its default address.

    `SLIMLINE_MLFLOW_UI_URL` says what browsers call the server, where that is not what workers call it.
    """
    uri = tracking.tracking_uri()
    server = os.environ.get("SLIMLINE_MLFLOW_UI_URL") or (uri if uri.startswith("http") else "http://127.0.0.1:5000")
    parts = urlsplit(server.rstrip("/"))
    server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # a link is shown: no password in it
    return f"{server}/#/{route}?{MODEL_TRAINING}"
