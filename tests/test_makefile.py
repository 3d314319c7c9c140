"""What `make` does to a folder that a person has moved, or means to clean."""

import os
import pty
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    """A checkout whose environment is ready, as far as `make` looks at it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".ready").write_text(f"{folder}\n")
    return folder


def make(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, input=typed, capture_output=True, text=True)


def test_the_environment_of_a_folder_that_was_moved_is_made_anew(folder):
    assert "venv --clear" not in make(folder, "--dry-run", "status").stdout
    moved = folder.rename(folder.with_name("moved"))
    assert "-m venv --clear .venv" in make(moved, "--dry-run", "status").stdout


def registry_in(folder: Path) -> Path:
    """A database as far as `make` looks at it."""
    (folder / ".slimline").mkdir()
    database = folder / ".slimline" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE model_versions (name, version, current_stage)")
        rows = [("digits", 1, "None"), ("digits", 2, "None"), ("faces", 1, "None"), ("gone", 1, "Deleted_Internal")]
        connection.executemany("INSERT INTO model_versions VALUES (?, ?, ?)", rows)
    return database


@pytest.mark.parametrize("typed", ["", "no\n", "yes\n"])
def test_a_registry_is_not_removed_by_a_script_that_does_not_mean_it(folder, typed):
    database = registry_in(folder)
    done = make(folder, "clean", typed=typed)
    assert done.returncode != 0
    assert database.exists()
    assert "Registered versions: digits (2), faces (1)" in done.stdout
    assert "make clean YES=1" in done.stdout
    assert "nothing was removed" in done.stdout
    assert make(folder, "clean", "YES=1").returncode == 0
    assert not (folder / ".slimline").exists()


@pytest.mark.parametrize(("typed", "removed"), [("no\n", False), ("yes\n", True)])
def test_a_person_at_a_terminal_is_asked(folder, typed, removed):
    database = registry_in(folder)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        done = subprocess.run(["make", "clean"], cwd=folder, stdin=theirs, capture_output=True, text=True)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Type yes to remove all of it: " in done.stdout
    assert (done.returncode == 0) == removed
    assert database.exists() != removed


def test_a_database_that_cannot_be_read_is_asked_about_too(folder):
    (folder / ".slimline").mkdir()
    (folder / ".slimline" / "mlflow.db").write_text("no database")
    done = make(folder, "clean")
    assert done.returncode != 0
    assert "the database cannot be read" in done.stdout


def test_what_holds_no_registry_goes_unasked(folder):
    (folder / ".slimline").mkdir()
    assert make(folder, "clean").returncode == 0
    assert not (folder / ".venv").exists()
