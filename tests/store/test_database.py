"""A state folder that moves, and a database that another MLflow made."""

import os
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from registered import register_file
from stores import forget

from tasks.contract.errors import StoreError
from tasks.store import database, registry, tracking


def move(home, to, monkeypatch, how=shutil.move):
    how(str(home), str(to))
    monkeypatch.setenv("SLIMLINE_HOME", str(to))
    forget()


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_folder_that_is_elsewhere_now_has_its_registry(store, tmp_path, monkeypatch, how):
    run, version = register_file(tmp_path / "made")
    there = tmp_path / "a folder with spaces"
    move(store, there, monkeypatch, how)
    for uri in (version.uri, "models:/moved@candidate"):
        opened = tracking.download(uri)
        assert opened.is_relative_to(there)
        assert (opened / "model.onnx").read_text() == "weights"
    assert (tracking.download(f"runs:/{run}/evidence.txt")).read_text() == "evidence"
    again, _ = register_file(tmp_path / "again", "another")
    assert tracking.download(f"runs:/{again}/evidence.txt").is_relative_to(there), "what comes later lies here too"
    assert not any(str(store) in line for line in closed(there).iterdump() if line.startswith("INSERT"))


def closed(home):
    return sqlite3.connect(home / "mlflow.db")


def test_a_folder_that_a_server_kept_moves_too(store, tmp_path, monkeypatch):
    """`mlflow server --default-artifact-root` has a folder for each experiment in it, and no escapes in its address."""
    location = f"file://{store}/artifacts/7"
    tracking.client().create_experiment("slimline", artifact_location=location)
    _, version = register_file(tmp_path / "made")
    move(store, tmp_path / "there", monkeypatch)
    assert tracking.download(version.uri).is_relative_to(tmp_path / "there" / "artifacts" / "7")


def test_artifacts_that_lie_elsewhere_on_purpose_stay_there(store, tmp_path, monkeypatch):
    elsewhere = tmp_path / "disk" / "artifacts"
    tracking.client().create_experiment("slimline", artifact_location=elsewhere.as_uri())
    _, version = register_file(tmp_path / "made")
    (store / "artifacts").mkdir()
    move(store, tmp_path / "there", monkeypatch)
    assert tracking.download(version.uri).is_relative_to(elsewhere)
    assert database.follow(tmp_path / "there" / "mlflow.db", tmp_path / "there" / "artifacts") == []


def test_a_database_of_an_older_mlflow_is_copied_before_it_is_brought_up_to_date(store, tmp_path):
    register_file(tmp_path / "made")
    head = database.revision(store / "mlflow.db")
    forget()
    downgrade(store / "mlflow.db", "an-older-one")
    with pytest.raises(StoreError, match=r"revision an-older-one.*backups/mlflow-an-older-one-") as refused:
        tracking.client()  # MLflow knows no such revision: it is left as it was
    (kept,) = (store / "backups").iterdir()
    assert str(kept) in str(refused.value)
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
    downgrade(store / "mlflow.db", head)
    assert registry.aliases_of("moved") == {"candidate": 1}


def downgrade(file, revision):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_copy_is_whole_while_others_write(tmp_path):
    file = tmp_path / "busy.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE pairs (one INTEGER, other INTEGER)")
    stop = threading.Event()

    def write():
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            for number in range(10**6):
                if stop.is_set():
                    return
                with connection:
                    connection.execute("INSERT INTO pairs VALUES (?, 0)", (number,))
                    connection.execute("UPDATE pairs SET other = one WHERE one = ?", (number,))

    thread = threading.Thread(target=write)
    thread.start()
    database.copy(file, tmp_path / "copy.db")
    stop.set()
    thread.join()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM pairs WHERE one != other").fetchone() == (0,)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
