"""`slimline up`, `down` and `status`: both servers and a worker on this machine, on loopback only.

supervisord runs them as deployments/supervisord.conf says. This module picks the ports, waits, and says where to look.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from flows import embedded, programs, servers
from flows.install import await_healthy
from flows.screen import say, screen
from flows.shipped import DEPLOYMENTS, ROOT
from tasks.contract.errors import InvalidInput, SlimlineError
from tasks.contract.state_folder import home

SETTINGS = DEPLOYMENTS / "supervisord.conf"
PORTS = {"PREFECT_SERVER_API_PORT": 4200, "MLFLOW_PORT": 5000}
WORKERS = {"compressions", "operations"}  # by the names that the settings give them
STARTING = 4.0  # seconds that what is only just being started has to end
LONGEST_SOCKET = 90  # characters of a path; the system takes 107, and supervisord adds a process id while it binds


class UpError(InvalidInput):
    """The servers cannot be started or stopped as they were asked to."""


def up() -> int:
    """Start all, say where, and stay until Ctrl-C or `slimline down`; returns an exit code."""
    if servers.running():
        raise UpError("up", str(home()), "is up already: look with `slimline status`, end it with `slimline down`")
    ports = {name: _free(name, default) for name, default in PORTS.items()}
    if len(str(servers.socket_file())) > LONGEST_SOCKET:
        raise UpError("SLIMLINE_HOME", str(home()), "is too long a path for a socket in it: choose a shorter one")
    (home() / "logs").mkdir(exist_ok=True)
    prefect, mlflow = (f"http://127.0.0.1:{ports[name]}" for name in PORTS)
    environment = {
        **programs.environment(),
        **{name: str(port) for name, port in ports.items()},
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": os.environ.get("PREFECT_UI_URL") or f"{prefect}/v2",  # links lead to the UI where / leads
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # lets the automation see that a worker is gone
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its jobs judge language models: processes for nothing
        "SLIMLINE_HOME": str(home()),
        "SLIMLINE_BIN": str(programs.BIN),
        "SLIMLINE_ROOT": str(ROOT),
        "SLIMLINE_FOLDER": str(Path.cwd()),
    }
    embedded.copy_blank()
    console, pressed = screen(), list[int]()
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))  # until we know what there is to end
    # In a session of its own: Ctrl-C comes to us alone, and we end it as everybody else does.
    supervisor = subprocess.Popen(  # noqa: S603  our own command
        [programs.BIN / "supervisord", "-c", SETTINGS], env=environment, start_new_session=True
    )
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last when the terminal is closed
        signal.signal(sign, _ask_to_stop)
    starting = True
    try:
        if pressed:
            raise KeyboardInterrupt
        servers.note_file().write_text(json.dumps({"PREFECT_API_URL": f"{prefect}/api", "MLFLOW_TRACKING_URI": mlflow}))
        say(console, "starting; the first time takes half a minute")
        _await(supervisor, prefect, mlflow)
        starting = False
        say(console, f"Prefect  {prefect}\nMLflow   {mlflow}\nLogs     {home() / 'logs'}")
        say(console, "Ctrl-C or `slimline down` ends it.")
        supervisor.wait()
    except KeyboardInterrupt:
        say(console, "\nending: first the worker, then the servers; Ctrl-C again does not wait for them")
    finally:
        _end(supervisor, STARTING if starting else None)
        servers.note_file().unlink(missing_ok=True)
    return 0


def down() -> int:
    """End what `slimline up` started, from another terminal; returns an exit code."""
    if not servers.running():
        print("nothing is up")
        return 0
    print("ending: first the worker, then the servers")
    _control("shutdown")
    deadline = time.monotonic() + 90
    while servers.running() and time.monotonic() < deadline:
        time.sleep(0.2)
    if servers.running():
        raise SlimlineError(f"it did not end within 90 seconds: see {home() / 'logs' / 'supervisord.log'}")
    print("all is down")
    return 0


def status() -> int:
    """Say what runs and where; returns 0 if all of it does, else 3, as service managers do."""
    if not servers.running():
        print("nothing is up; `slimline up` starts it")
        return 3
    states, console = _control("status"), screen()
    for table in ([line.split(maxsplit=2) for line in states.stdout.splitlines()], servers.addresses().items()):
        widest = max((len(name) for name, *_ in table), default=0)
        for name, *words in table:
            say(console, f"{name:<{widest}}  {'  '.join(words)}")
    return 0 if states.returncode == 0 else 3


def _await(supervisor: "subprocess.Popen[bytes]", prefect: str, mlflow: str) -> None:
    """Wait until both servers answer and both workers have asked for work.

    Raises:
        SlimlineError: one of them does not come up; names its log.

    """
    began = datetime.now(UTC)
    await_healthy(f"{prefect}/api/health")
    await_healthy(f"{mlflow}/health")
    deadline = time.monotonic() + 180
    while not _asked_for_work(prefect, began):
        if supervisor.poll() is not None or time.monotonic() > deadline:
            raise SlimlineError(f"the workers did not come up: see worker.log and operations.log in {home() / 'logs'}")
        time.sleep(0.5)


def _asked_for_work(prefect: str, began: datetime) -> bool:
    """Whether both workers have been heard of since then; the ones before may still count as online."""
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.post(f"{prefect}/api/work_pools/{servers.POOL}/workers/filter", json={}, timeout=10)
        workers = answer.json() if answer.status_code == 200 else []
        heard = {each["name"] for each in workers if datetime.fromisoformat(each["last_heartbeat_time"]) > began}
        return heard >= WORKERS
    return False


def _free(name: str, default: int) -> int:
    """The port that an environment variable names.

    Raises:
        UpError: it is not a port, or another program has it.

    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UpError(name, text, "is no port: give a number from 1 to 65535")
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError as error:
            raise UpError(
                name,
                int(text),
                f"cannot be had{_holder(int(text))} ({error.strerror}): `{name}=… slimline up` takes another",
            ) from error
    return int(text)


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f", {psutil.Process(connection.pid).name()} (process {connection.pid}) has it"
    return ""


def _end(supervisor: "subprocess.Popen[bytes]", patience: float | None) -> None:
    """Let the supervisor end what it started, in its order.

    Another Ctrl-C ends all of it at once, and so does `patience`, in seconds: a program loses the signal that it gets
    while it is being started, and the supervisor would wait for it for half a minute.
    """
    import psutil

    supervisor.terminate()
    try:
        supervisor.wait(patience)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        family = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.kill()  # first, as it starts again what dies
        supervisor.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        servers.socket_file().unlink(missing_ok=True)


def _ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _control(word: str) -> "subprocess.CompletedProcess[str]":
    names = ("PREFECT_SERVER_API_PORT", "MLFLOW_PORT")  # the settings name them, supervisorctl reads the settings
    environment = {**os.environ, **dict.fromkeys(names, "0")}
    environment |= {"SLIMLINE_HOME": str(home()), "SLIMLINE_BIN": str(programs.BIN), "SLIMLINE_ROOT": str(ROOT)}
    return subprocess.run(  # noqa: S603  our own command
        [programs.BIN / "supervisorctl", "-c", SETTINGS, word],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
