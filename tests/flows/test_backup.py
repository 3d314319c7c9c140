"""A state folder in one archive, and back."""

import io
import tarfile

import pytest
from registered import register_file
from stores import forget

from flows.backup import BackupDamaged, NotOurs, backup, restore
from tasks.contract.errors import OutputTaken
from tasks.store import registry, tracking


@pytest.fixture
def archive(store, tmp_path):
    run, version = register_file(tmp_path / "made")
    (store / "prefect").mkdir()
    (store / "prefect" / "prefect.db").write_bytes((store / "mlflow.db").read_bytes())  # any database
    place = tmp_path / "backups" / "state.tar.gz"
    (store / "studies.db").write_bytes((store / "mlflow.db").read_bytes())
    assert backup(place) == 5  # three databases, the model and the evidence
    return place, run, version


def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / "elsewhere"))
    forget()
    return tmp_path / "elsewhere"


def test_what_is_restored_elsewhere_is_all_of_it(archive, tmp_path, monkeypatch):
    place, run, version = archive
    there = elsewhere(tmp_path, monkeypatch)
    assert restore(place) == 5
    assert registry.aliases_of("moved") == {"candidate": 1}
    opened = tracking.download(version.uri)
    assert opened.is_relative_to(there)
    assert (opened / "model.onnx").read_text() == "weights"
    assert tracking.download(f"runs:/{run}/evidence.txt").read_text() == "evidence"
    assert sorted(path.name for path in there.iterdir()) == ["artifacts", "mlflow.db", "prefect", "studies.db"]


def test_what_is_there_is_not_overwritten(archive, tmp_path):
    place, *_ = archive
    with pytest.raises(OutputTaken, match="is there already: restore to a folder"):
        restore(place)
    with pytest.raises(OutputTaken, match="name a file that is not"):
        backup(place)


def test_a_registry_that_a_server_keeps_is_backed_up_there(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    with pytest.raises(NotOurs, match=r"kept by http://mlflow\.example:5000"):
        backup(tmp_path / "state.tar")
    assert not list(tmp_path.glob("state.tar*"))


def changed(place, to, change):
    """The archive once more, with each entry's content put through a function; None leaves it out."""
    with tarfile.open(place) as old, tarfile.open(to, "w") as new:
        for entry in old.getmembers():
            content = change(entry.name, old.extractfile(entry).read())
            if content is not None:
                entry.size = len(content)
                new.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name, content: content + b"!" if name.endswith(".onnx") else content, r"model\.onnx: damaged"),
        (lambda name, content: None if name.endswith(".onnx") else content, r"model\.onnx: missing"),
        (lambda name, content: None if name == "manifest.json" else content, "has no manifest"),
        (lambda name, content: content.replace(b'"format": 1', b'"format": 9'), "is of format 9"),
        (lambda name, content: content.replace(b"evidence.txt", b"evidence.no"), "not of the backup"),
    ],
    ids=["damaged", "missing", "without manifest", "another format", "extra"],
)
def test_an_archive_that_is_not_as_it_was_written_is_refused(archive, tmp_path, monkeypatch, change, says):
    place, *_ = archive
    changed(place, tmp_path / "changed.tar", change)
    there = elsewhere(tmp_path, monkeypatch)
    with pytest.raises(BackupDamaged, match=says):
        restore(tmp_path / "changed.tar")
    assert list(there.iterdir()) == []


def test_an_archive_that_was_cut_off_is_refused(archive, tmp_path, monkeypatch):
    place, *_ = archive
    place.write_bytes(place.read_bytes()[:-200])
    elsewhere(tmp_path, monkeypatch)
    with pytest.raises(BackupDamaged, match=r"cannot be read|has no manifest"):
        restore(place)
