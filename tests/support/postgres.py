"""A PostgreSQL cluster of a test's own: made by initdb in a temporary folder, on loopback only, gone at the end."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STARTS_WITHIN = 60  # seconds; it takes one or two where nothing else runs


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL and its superuser."""

    port: int
    password: str
    user: str = "slimline"
    host: str = "127.0.0.1"

    def url(self, database: str, driver: str = "postgresql") -> str:
        """How SQLAlchemy finds a database: `driver` is `postgresql` for MLflow, `postgresql+asyncpg` for Prefect."""
        return f"{driver}://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside of a transaction; gives its rows, if it has any."""
        import psycopg2

        connection = psycopg2.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=database
        )
        try:
            connection.autocommit = True  # CREATE DATABASE refuses to run inside a transaction
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; Debian keeps them off the path. Nothing where there is no server."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    # the newest first: 9 comes before 15 only as text
    debian = Path("/usr/lib/postgresql")
    versions = sorted(debian.glob("*"), key=lambda folder: float(folder.name), reverse=True) if debian.is_dir() else []
    for folder in [*folders, *(version / "bin" for version in versions)]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def free_port() -> int:
    """A port that nothing on loopback listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(*databases: str) -> Iterator[Cluster]:
    """Start a cluster with these databases in it; skips the test where PostgreSQL is not installed."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="slimline-postgres-"))  # pytest's own folders are closed to other users
    try:
        identity = _identity(folder)
        running = Cluster(free_port(), secrets.token_hex(16))
        _initialise(binaries, folder, running, identity)
        with (folder / "log").open("wb") as log:
            # neither a socket file nor an address beyond loopback; a test's data need not survive a power cut
            settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=100")
            server = subprocess.Popen(
                [
                    *(binaries / "postgres", "-D", folder / "data", "-p", str(running.port)),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                **identity,
            )
        try:
            _await(running, server, folder / "log")
            for database in databases:
                running.execute(f'CREATE DATABASE "{database}"')
            yield running
        finally:
            server.send_signal(signal.SIGINT)  # the "fast" shutdown: it does not wait for connections to end
            server.wait(timeout=STARTS_WITHIN)
    finally:
        shutil.rmtree(folder)


def _identity(folder: Path) -> dict[str, Any]:
    """As whom PostgreSQL runs, for `subprocess`: it refuses root, so root hands the folder to another user."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _initialise(binaries: Path, folder: Path, running: Cluster, identity: dict[str, Any]) -> None:
    password = folder / "password"
    password.write_text(running.password)
    if identity:
        os.chown(password, identity["user"], identity["group"])
    command = [binaries / "initdb", "-D", folder / "data", "-U", running.user, "--auth=scram-sha-256"]
    options = [f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=folder, **identity)
    assert done.returncode == 0, done.stderr
    password.unlink()


def _await(running: Cluster, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            running.execute("SELECT 1")
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.1)
        else:
            return
