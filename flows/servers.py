"""Which servers `slimline up` has started on this machine: everything else joins them while they are up."""

import contextlib
import json
import os
import socket
from pathlib import Path

from tasks.contract.state_folder import home

POOL = "slimline"  # the work pool that its workers work for
# as Prefect calls them
FLOWS = ["compress", "compress-recipe", "promote", "rollback", "monitor", "deploy", "verify", "sensitivity"]
FLOWS += ["search", "search-recipe", "trial", "compress-found"]


def running() -> bool:
    """Whether what `slimline up` started is there: its supervisor answers on its socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(str(socket_file()))
        except OSError:
            return False
    return True


def addresses() -> dict[str, str]:
    """The environment that leads to the servers of `slimline up`; empty where it is not up."""
    if not running() or not note_file().is_file():
        return {}
    return {str(name): str(url) for name, url in json.loads(note_file().read_text()).items()}


def keep_the_store() -> bool:
    """Whether MLflow's store is the one in our state folder, which `slimline up` serves."""
    return addresses().get("MLFLOW_TRACKING_URI") == os.environ.get("MLFLOW_TRACKING_URI")


def socket_file() -> Path:
    """Where the supervisor takes orders."""
    return home() / "supervisor.sock"


def note_file() -> Path:
    """Where the addresses stand."""
    return home() / "up.json"
