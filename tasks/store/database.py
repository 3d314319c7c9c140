"""MLflow's SQLite database in the state folder, before it is opened: where its artifacts are, and which tables it has.

MLflow keeps the absolute address of every artifact. The artifacts of a state folder lie beside its database, so where
the folder was moved, copied or restored the addresses follow it.
"""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from tasks.contract.errors import StoreError
from tasks.contract.state_folder import alone

ADDRESSES = {  # which columns of which tables hold addresses
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
ROOT = re.compile(r"((?:file://)?/.*/artifacts)(?:/\d+)?")  # of an experiment: a server adds the experiment's number


def make_ready(database: Path, artifacts: Path, head: str) -> None:
    """Do both of what is below, before MLflow opens the database."""
    migrate(database, head)
    follow(database, artifacts)


def follow(database: Path, artifacts: Path) -> list[str]:
    """Lead the addresses of artifacts that lie in a folder there, if they lead elsewhere; gives where they led."""
    if not database.is_file() or not artifacts.is_dir():
        return []
    here = artifacts.absolute().as_uri()
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        if not _revision(connection):
            return []
        locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        roots = {match[1] for (location,) in locations if location and (match := ROOT.fullmatch(location))}
        moved = [root for root in sorted(roots) if _path(root) != _path(here) and _is_here(connection, root, artifacts)]
        for root in moved:
            for table, columns in ADDRESSES.items():
                for column in columns:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608  names of our own
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (here, len(root) + 1, root, len(root) + 1, f"{root}/"),
                    )
    return moved


def migrate(database: Path, head: str) -> None:
    """Bring the tables of a database of an older MLflow up to date; it is copied to `backups/` beside it first.

    Args:
        database: may be missing, or empty: MLflow makes its tables itself then.
        head: the revision that the installed MLflow needs.

    Raises:
        StoreError: it cannot be brought there, as when a newer MLflow made it; says where the copy is.

    """
    if not database.is_file() or revision(database) in ("", head):
        return
    with alone(database.with_name("locks") / "migration.lock", lambda: None):
        now = revision(database)
        if now == head:  # another process was faster
            return
        kept = keep_copy(database, now)
        command = [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  MLflow's own command
        if done.returncode != 0 or revision(database) != head:
            reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise StoreError(
                f"{database} has MLflow's tables of revision {now}, and this MLflow needs {head}: {reason}. The "
                f"database as it was is {kept}; install the MLflow that made it, or restore a backup"
            )


def keep_copy(database: Path, now: str) -> Path:
    """Copy a database into `backups/` beside it, under the revision of its tables; gives the copy."""
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = database.with_name("backups") / f"{database.stem}-{now}-{at}.db"
    kept.parent.mkdir(exist_ok=True)
    copy(database, kept)
    return kept


def copy(database: Path, to: Path) -> None:
    """Copy a database that others may be writing to: SQLite's online backup, whole or not at all."""
    partial = to.with_name(f"{to.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(database, timeout=60)) as source, closing(sqlite3.connect(partial)) as target:
        source.backup(target)
    partial.replace(to)


def entries(database: Path) -> set[str]:
    """The ids of every run and logged model that a database knows, deleted ones too."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        known = connection.execute("SELECT run_uuid FROM runs UNION SELECT model_id FROM logged_models")
        return {each for (each,) in known}


def give_back(database: Path) -> bool:
    """Make the file as small as what is in it; false if somebody uses the database, and it stays as large as it was."""
    with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
    return True


def revision(database: Path) -> str:
    """The revision of a database's tables, as Alembic notes it; empty if it has none."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        return _revision(connection)


def _revision(connection: sqlite3.Connection) -> str:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return str(row[0]) if row else ""


def _is_here(connection: sqlite3.Connection, root: str, artifacts: Path) -> bool:
    """Whether what the database knows under an address lies in this folder; if it knows nothing, whether it is gone."""
    known = [
        location
        for table, column in (("logged_models", "artifact_location"), ("runs", "artifact_uri"))
        for (location,) in connection.execute(
            f"SELECT {column} FROM {table} WHERE substr({column}, 1, ?) = ?",  # noqa: S608  names of our own
            (len(root) + 1, f"{root}/"),
        )
    ]
    if any((artifacts / _path(location).relative_to(_path(root))).exists() for location in known):
        return True
    return not known and not _path(root).exists()


def _path(address: str) -> Path:
    return Path(unquote(address.removeprefix("file://")) if address.startswith("file://") else address)
