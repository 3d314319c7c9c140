"""Prefect without a server of one's own: one is started for this process, and goes with it.

Prefect would start one itself at the first API call. Started first thing instead, it comes up while this process
imports its libraries, which takes as long.
"""

import atexit
import contextlib
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from flows import programs, servers
from tasks.contract import child
from tasks.contract.errors import SlimlineError
from tasks.contract.state_folder import home
from tasks.store.database import keep_copy, revision

TIMEOUT = 120  # seconds; without a blank database the first start makes one, and has taken 30 on two cores
PROBE = 5  # seconds that one look may take; the next one follows


_started: list[str] = []  # addresses of servers that this process has started


class ServerError(SlimlineError):
    """The embedded Prefect server did not come up."""


def settle() -> None:
    """Put Prefect's state in our folder and keep it quiet, wherever the person has not set it otherwise.

    Servers that `slimline up` has started are joined. Has to come before Prefect is imported, which reads its settings
    once.
    """
    for name, url in servers.addresses().items():
        os.environ.setdefault(name, url)
    os.environ.setdefault("PREFECT_HOME", str(home() / "prefect"))
    os.environ.setdefault(
        "PREFECT_SERVER_ANALYTICS_ENABLED", "false"
    )  # its telemetry prints a traceback on first start
    # on disk: in the memory of a server they die with it, and what they hold in its database is taken for ever
    os.environ.setdefault(
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem"
    )
    # what it does by itself, and logs and pages of flow runs that `slimline gc` removed: Prefect leaves them behind
    os.environ.setdefault("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,orphans")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # its client's telemetry speaks, and prints a notice, at terminals only
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")  # a stage may be run alone


def start_server() -> "subprocess.Popen[bytes] | None":
    """Start a Prefect server on loopback for this process; nothing if `PREFECT_API_URL` names one.

    Does not wait for it: `await_server` does.
    """
    if os.environ.get("PREFECT_API_URL"):
        return None
    copy_blank()
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    _started.append(os.environ["PREFECT_API_URL"])
    # The command of Prefect's own documentation. In a session of its own: it still has to be told how a run ended that
    # was stopped with Ctrl-C.
    program = child.words("prefect", "server", "start", "--host", "127.0.0.1", "--no-ui", "--port", str(port))
    with log_file().open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  our own program
            programs.python(*program), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    atexit.register(_end, process)
    return process


def is_own_server() -> bool:
    """Whether Prefect's server is one of this state folder: of this process, or of `slimline up`."""
    url = os.environ.get("PREFECT_API_URL", "")
    return url in _started or url == servers.addresses().get("PREFECT_API_URL")


def blank_database() -> Path:
    """An empty database of this Prefect version, for `start_server` to copy; made if this environment has none yet.

    A new database runs every migration that Prefect ever had: half a minute on two cores, once for an environment
    instead of once for a state folder. `make` calls this when it installs.
    """
    blank = _blank()
    if not blank.is_file():
        blank.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=blank.parent) as folder:
            made = Path(folder) / "prefect.db"
            environment = {
                **os.environ,
                "PREFECT_HOME": folder,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}",
            }
            command = programs.python("-m", "prefect", "server", "database", "upgrade", "--yes")
            subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603  Prefect's own command
            made.replace(blank)
    return blank


def _blank() -> Path:
    version = importlib.metadata.version("prefect")
    return Path(sys.prefix) / "share" / "slimline" / f"prefect-{version}.db"


def own_database() -> Path | None:
    """Prefect's database in its state folder, which may not be there yet; none where a person has named another."""
    elsewhere = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    if any(os.environ.get(name) for name in elsewhere):
        return None
    return Path(os.environ["PREFECT_HOME"]) / "prefect.db"


def copy_blank() -> None:
    """Give a new state folder its database, unless the person has named one elsewhere.

    One that an older Prefect made is copied to `backups/` beside it first: the server brings its tables up to date.
    """
    database = own_database()
    if database is None or not _blank().is_file():
        return
    if database.exists():
        now = revision(database)
        if now not in ("", revision(_blank())):
            keep_copy(database, now)
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    beside = database.with_name(f"prefect-{os.getpid()}.db")
    shutil.copyfile(_blank(), beside)
    beside.replace(database)


def log_file() -> Path:
    """Where the embedded server writes."""
    return home() / "prefect-server.log"


def await_server(process: "subprocess.Popen[bytes] | None") -> None:
    """Wait until the server that `start_server` started answers.

    Raises:
        ServerError: it ended, or took longer than two minutes.

    """
    if process is None:
        return
    url = os.environ["PREFECT_API_URL"] + "/health"
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),  # nobody listens yet, or what listens has no time to answer
            urllib.request.urlopen(url, timeout=PROBE) as answer,  # noqa: S310  our own server on loopback
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise ServerError(
        f"the embedded Prefect server did not come up (exit code {process.poll()}): see {log_file()}, "
        "or start one with `prefect server start` and set PREFECT_API_URL"
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    blank_database()
