"""What must hold of a state folder: looked at directly, in both databases, the locks and the versions' files."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.contract.errors import SlimlineError
from tasks.store import tracking
from tasks.versions.registered import open_registered

BUSY = 10  # seconds that a database may be busy: a server that died may just be letting go of it
PENDING, RUNNING = 1, "RUNNING"  # of MLflow's models and runs
# what was killed before it began to run has said no process; it is closed by a command that comes minutes later
KNOWN = "(infrastructure_pid IS NOT NULL OR created < datetime('now', '-150 seconds'))"
OPEN = ("RUNNING", "PENDING", "PAUSED", "CANCELLING")  # of Prefect's


def rows(database: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a database answers; nothing if it is not there yet."""
    if not database.is_file():
        return []
    with closing(sqlite3.connect(database, timeout=BUSY)) as connection:
        return connection.execute(query, values).fetchall()


def mlflow(home: Path) -> Path:
    """MLflow's database."""
    return home / "mlflow.db"


def prefect(home: Path) -> Path:
    """Prefect's database."""
    return home / "prefect" / "prefect.db"


def after_a_kill(home: Path) -> Iterator[str]:
    """What is broken of what must hold at every moment, whatever was killed."""
    for database in (mlflow(home), prefect(home)):
        yield from _database(database)
    locks = [*(home / "locks").glob("*"), *(home / "checkpoints").glob("*.lock")]
    yield from (f"nothing is locked: {file.name} is" for file in locks if _is_locked(file))
    for version in versions("tiny"):
        try:
            if why := open_registered(f"models:/tiny/{version}").unsealed():
                yield f"a version is whole: {why}"
        except SlimlineError as error:
            yield f"a version is whole: {error}"


def after_the_next(home: Path) -> Iterator[str]:
    """What is broken of what must hold when the next command has ended well."""
    runs = rows(mlflow(home), "SELECT name FROM runs WHERE status = ?", RUNNING)
    yield from (f"MLflow's runs are closed: {name} is running" for (name,) in runs)
    for table, known in (("flow_run", KNOWN), ("task_run", "TRUE")):
        left = rows(prefect(home), f"SELECT name, state_name FROM {table} WHERE state_type IN {OPEN} AND {known}")
        yield from (f"Prefect's {table}s are closed: {name} is {state}" for name, state in left)
    models = rows(mlflow(home), "SELECT name FROM logged_models WHERE status = ?", PENDING)
    yield from (f"MLflow's models are closed: {name} is pending" for (name,) in models)
    keys = """SELECT r.name, COUNT(*) FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid AND t.key = ?
              WHERE r.status = 'FINISHED' AND r.name NOT IN ('compare', 'smoke', 'monitor', 'trial')
              AND r.name NOT LIKE 'bundle-%'
              GROUP BY t.value HAVING COUNT(*) > 1"""
    twice = rows(mlflow(home), keys, tracking.KEY)
    yield from (f"nothing is made twice: {name} was, {count} times" for name, count in twice)
    # a lock's file may stay: nothing is locked by its being there
    left_there = sorted(path.name for path in (home / "checkpoints").glob("*"))
    yield from (f"nothing is left behind: checkpoints/{name}" for name in left_there)


def finished(home: Path, name: str) -> set[str]:
    """The ids of the runs of a name that ended well."""
    return {
        run for (run,) in rows(mlflow(home), "SELECT run_uuid FROM runs WHERE name = ? AND status = 'FINISHED'", name)
    }


def finished_stages(home: Path) -> dict[str, str]:
    """Every stage run that ended well, by its id: its name."""
    query = """SELECT r.run_uuid, r.name FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid AND t.key = ?
               WHERE r.status = 'FINISHED'"""
    return dict(rows(mlflow(home), query, tracking.KEY))


def versions(name: str) -> list[int]:
    """The numbers of a registered model's versions."""
    found = tracking.client().search_model_versions(f"name = '{name}'", max_results=1000)
    return sorted(int(version.version) for version in found)


def _database(file: Path) -> Iterator[str]:
    if not file.is_file():
        return
    with closing(sqlite3.connect(file, timeout=BUSY, isolation_level=None)) as connection:
        try:
            (said,) = connection.execute("PRAGMA quick_check").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            said = str(error)
    if said != "ok":
        yield f"a database is whole and can be written: {file.name}: {said}"


def _is_locked(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:  # a folder, or gone
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
