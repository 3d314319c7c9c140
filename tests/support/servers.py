"""Prefect's and MLflow's servers and workers, as real processes on loopback: to stop, to kill, and to start again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from postgres import cluster, free_port

from flows import embedded
from flows.install import await_healthy

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


class Servers:
    """Both servers, with artifacts that travel through MLflow: nobody but it sees their folder."""

    def __init__(self, folder: Path, prefect_database: str = "", mlflow_database: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        ports = {"prefect": free_port(), "mlflow": free_port()}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.artifacts = folder / "artifacts"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"{self.urls['prefect']}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # by default a run waits up to ten seconds for a worker to look
            "MLFLOW_TRACKING_URI": self.urls["mlflow"],
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        if prefect_database:
            self.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = prefect_database
        else:
            blank = folder / "prefect" / "prefect.db"
            blank.parent.mkdir()
            blank.write_bytes(embedded.blank_database().read_bytes())
        mlflow_options = ["--backend-store-uri", mlflow_database or f"sqlite:///{folder / 'mlflow.db'}"]
        mlflow_options += ["--serve-artifacts", "--artifacts-destination", str(self.artifacts), "--workers", "1"]
        address = {name: ["--host", "127.0.0.1", "--port", str(port)] for name, port in ports.items()}
        self._commands = {
            "prefect": [BIN / "prefect", "server", "start", "--no-ui", *address["prefect"]],
            "mlflow": [BIN / "mlflow", "server", *address["mlflow"], *mlflow_options],
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start servers, and wait until they answer."""
        for name in names:
            self._run(name, self._commands[name], self.environment)
        for name in names:
            await_healthy(self.urls[name] + {"prefect": "/api/health", "mlflow": "/health"}[name])

    def install(self) -> None:
        """Work pool, deployments and automations, as `make up` does it."""
        command = [sys.executable, "-m", "flows.install"]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def worker(self, name: str) -> None:
        """A worker with a state folder, a home and a temporary folder of its own, as on a machine of its own."""
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        own = {"SLIMLINE_HOME": folder / "state", "PREFECT_HOME": folder / "prefect", "TMPDIR": folder / "tmp"}
        environment = {**self.environment, **{key: str(value) for key, value in own.items()}, "HOME": str(folder)}
        environment.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL", None)
        command = [BIN / "prefect", "worker", "start", "--pool", "slimline", "--name", name, "--limit", "1"]
        self._run(name, command, environment)

    def stop(self, name: str, sign: int = signal.SIGTERM) -> None:
        """End a server or a worker: with SIGKILL, and everything that it began, as when a machine loses its power."""
        process = self._processes.pop(name)
        family = _family(process.pid)
        if sign == signal.SIGKILL:
            for pid in family:
                _kill(pid)
        else:
            process.send_signal(sign)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
        for pid in family:
            _kill(pid)

    def stop_all(self) -> None:
        """Workers first."""
        for name in reversed(list(self._processes)):
            self.stop(name)

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Prefect's API: GET, or POST with a body."""
        url = f"{self.urls['prefect']}/api/{path}"
        answer = httpx.get(url, timeout=30) if body is None else httpx.post(url, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def run(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Schedule a flow run for now; its id."""
        about = self.api(f"deployments/name/{deployment}")
        return str(self.api(f"deployments/{about['id']}/create_flow_run", {"parameters": parameters})["id"])

    def state(self, run: str) -> str:
        """A flow run's state by name."""
        return str(self.api(f"flow_runs/{run}")["state_name"])

    def await_state(self, run: str, *states: str, within: float = 400) -> str:
        """Wait until a flow run is in one of these states."""
        return until(lambda: (state := self.state(run)) in states and state, within, lambda: self.state(run))

    def _run(self, name: str, command: list[Any], environment: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def until(look: Callable[[], Any], within: float, say: Callable[[], object] = lambda: "") -> Any:
    """What `look` gives as soon as it is true, while servers may be away."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if seen := look():
                return seen
        except httpx.HTTPError:  # a server that is stopped on purpose
            pass
        time.sleep(0.5)
    raise AssertionError(f"not within {within} seconds: {say()}")


def _family(pid: int) -> list[int]:
    """A process and everything that it began."""
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def sqlite_servers(folder: Path) -> Iterator[Servers]:
    """Both servers on SQLite."""
    servers = Servers(folder)
    try:
        servers.start("prefect", "mlflow")
        yield servers
    finally:
        servers.stop_all()


@contextmanager
def postgres_servers(folder: Path) -> Iterator[Servers]:
    """Both servers on PostgreSQL; skips the test where it is not installed."""
    with cluster("prefect", "mlflow") as postgres:
        servers = Servers(folder, postgres.url("prefect", "postgresql+asyncpg"), postgres.url("mlflow"))
        try:
            servers.start("prefect", "mlflow")
            yield servers
        finally:
            servers.stop_all()
