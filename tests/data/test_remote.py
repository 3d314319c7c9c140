"""Data at addresses: fetched whole, known again by what their server says of them, and never with a secret."""

import functools
import http.server
import io
import itertools
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import fsspec
import numpy as np
import pytest

from flows.recipe_file import check_settings, read_recipe
from tasks.contract.errors import DataError, RecipeError
from tasks.contract.progress import RunLog, listen
from tasks.data import DataConfig, Dataset, fingerprint, open_data
from tasks.data.address import HIDDEN, without_secrets
from tasks.data.new import NewDataConfig

AGES = (timedelta(seconds=number) for number in itertools.count(100))
X = np.random.default_rng(0).random((60, 3)).astype(np.float32)
Y = np.arange(60) % 2


def archive(x: np.ndarray = X) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=x, y=Y)
    return stream.getvalue()


def table(rows: range = range(60)) -> bytes:
    return "\n".join(["a,b,label", *(f"{X[n, 0]},{X[n, 1]},{Y[n]}" for n in rows)]).encode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def put(files: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """A file that was written a while ago, so that its time is that of no other content."""
    files.pipe(path, content)
    files.store[path].created -= next(AGES)


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """What a person is told."""

    class Kept(RunLog):
        def note(self, stage: str, message: str) -> None:
            kept.append(message)

    kept: list[str] = []
    listen(Kept())
    yield kept
    listen(RunLog())


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server of a folder: its address, the folder, and what was asked of it."""
    root, asked = tmp_path / "web", []
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(f"{self.command} {self.path}")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", root, asked
    server.shutdown()
    server.server_close()


def opened(source: str, reader: str = "npz", **config: str) -> Dataset:
    return open_data(DataConfig(reader=reader, source=source, **config))


def contents(home: Path) -> list[Path]:
    return [path for path in (home / "remote" / "content").rglob("*") if path.is_file()]


def test_what_lies_elsewhere_is_what_lies_here(memory, tmp_path: Path, home: Path, notes: list[str]) -> None:
    put(memory, "/data/d.npz", archive())
    (tmp_path / "d.npz").write_bytes(archive())
    here, there = opened(str(tmp_path / "d.npz")), opened("memory://data/d.npz")
    assert there.digest == here.digest
    assert fingerprint(there.config) == fingerprint(here.config)
    assert there.config.source == "memory://data/d.npz"
    assert notes == [f"memory://data/d.npz: 1 file, {len(archive()) / 1e6:.1f} MB, fetched into {home / 'remote'}."]
    file = f"file://{tmp_path}/d.npz"
    assert opened(file).digest == here.digest
    assert len(contents(home)) == 1, "what lies on this machine is read where it lies"


def test_what_is_known_is_not_fetched_again_and_what_changed_is(memory, home: Path, notes: list[str]) -> None:
    put(memory, "/d.npz", archive())
    first = opened("memory://d.npz")
    assert opened("memory://d.npz") is first
    put(memory, "/d.npz", archive(X + 1))
    second = opened("memory://d.npz")
    assert second.digest != first.digest
    assert fingerprint(second.config) != ""
    put(memory, "/copy.npz", archive(X + 1))
    assert opened("memory://copy.npz").digest == second.digest
    assert len(contents(home)) == 2, "a file that is the same by content is one file"
    assert [note.split(":")[0] for note in notes] == ["memory"] * 3
    before = fingerprint(first.config)
    put(memory, "/d.npz", archive())
    assert fingerprint(first.config) != before


def test_a_folder_of_shards_and_its_names(memory, home: Path) -> None:
    put(memory, "/tables/train-0.csv", table(range(30)))
    put(memory, "/tables/train-1.csv", table(range(30, 45)))
    put(memory, "/tables/test-0.csv", table(range(45, 60)))
    data = opened("memory://tables", "table")
    assert (sum(data.counts.values()), data.counts["test"]) == (60, 15)
    assert opened("memory://tables/", "table").digest == data.digest
    only = opened("memory://tables/train-*.csv", "table", test_source="memory://tables/test-0.csv")
    assert only.digest == data.digest
    memory.rm("/tables/train-1.csv")
    assert sum(opened("memory://tables", "table").counts.values()) == 45, "what is gone there is gone here"
    assert len(contents(home)) == 3


def test_class_folders_elsewhere(memory) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("owl", "bat"):
        for number in range(8):
            stream = io.BytesIO()
            Image.fromarray(draw.integers(0, 256, (4, 4, 3), np.uint8)).save(stream, "PNG")
            put(memory, f"/images/{name}/deep/{number}.png", stream.getvalue())
    data = opened("memory://images", "folder")
    assert data.classes == ("bat", "owl")
    put(memory, "/images/owl/bad.png", b"no image")
    with pytest.raises(DataError, match=r"cannot be decoded: memory://images/owl/bad\.png"):
        opened("memory://images", "folder")


def test_the_web_says_when_a_file_changed(web, home: Path) -> None:
    address, root, asked = web
    (root / "d.npz").write_bytes(archive())
    os.utime(root / "d.npz", (1, time.time() - 100))
    first = opened(f"{address}/d.npz")
    assert "GET /d.npz" in asked
    asked.clear()
    assert opened(f"{address}/d.npz") is first
    assert {line.split()[0] for line in asked} == {"HEAD"}, "only what it is like is asked"
    for more in (1, 2):  # within one second, which is all that Last-Modified tells
        (root / "d.npz").write_bytes(archive(X + more))
        np.testing.assert_allclose(opened(f"{address}/d.npz").input.mean, first.input.mean + more, atol=0.3)
    assert [path.name for path in (home / "remote").rglob("*.npz")] == ["d.npz"] * 3


def test_a_folder_of_the_web(web) -> None:
    address, root, _ = web
    (root / "t").mkdir()
    (root / "t" / "train.csv").write_bytes(table(range(40)))
    (root / "t" / "test.csv").write_bytes(table(range(40, 60)))
    data = opened(f"{address}/t/", "table")
    assert data.counts["test"] == 20


def test_a_file_in_an_archive_of_the_web(web) -> None:
    address, root, _ = web
    with zipfile.ZipFile(root / "a.zip", "w") as packed:
        packed.writestr("inside/d.npz", archive())
    first = opened(f"zip://inside/d.npz::{address}/a.zip")
    assert first.digest == opened(f"zip://inside/d.npz::file://{root}/a.zip").digest
    with zipfile.ZipFile(root / "a.zip", "w") as packed:
        packed.writestr("inside/d.npz", archive(X + 1))
    assert opened(f"zip://inside/d.npz::{address}/a.zip").digest != first.digest


def test_a_file_whose_server_says_nothing_of_it_is_fetched_each_time(memory, monkeypatch, notes: list[str]) -> None:
    info = type(memory).info

    def silent(self: object, path: str, **options: object) -> dict[str, object]:
        return {name: value for name, value in info(self, path, **options).items() if name != "created"}

    monkeypatch.setattr(type(memory), "info", silent)
    put(memory, "/d.npz", archive())
    first = opened("memory://d.npz")
    assert opened("memory://d.npz") is first, "it is the same by content"
    assert len(notes) > 1
    put(memory, "/d.npz", archive(X + 1))
    assert opened("memory://d.npz").digest != first.digest


def test_a_fetch_that_was_killed_leaves_nothing_in_the_way(memory, home: Path) -> None:
    for name in ("fetching", "viewing"):
        (home / "remote" / name / "0").mkdir(parents=True)
    put(memory, "/d.npz", archive())
    digest = opened("memory://d.npz").digest
    assert sorted(path.name for path in (home / "remote").iterdir()) == ["content", "known", "views"]
    for path in contents(home):
        path.unlink()
    assert opened("memory://d.npz").digest == digest


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://gone.npz", r"data.source: 'memory://gone.npz': nothing can be read there"),
        ("http://127.0.0.1:9/d.npz", "(cannot be fetched|nothing can be read) .*Cannot connect to host 127.0.0.1"),
        ("nosuch://a/b", "cannot be fetched .*nosuch"),
        ("gs://bucket/d.npz", r"needs a package that is not here.*pip install 'slimline\[remote\]'"),
        ("hf://datasets/a/b/d.parquet", r"pip install 'slimline\[remote\]'"),
        ("file:///no/such/file.npz", "no such file or folder"),
    ],
)
def test_what_cannot_be_fetched(source: str, message: str) -> None:
    for function in (open_data, fingerprint):
        with pytest.raises(DataError, match=message):
            function(DataConfig(reader="npz", source=source))


def test_an_error_about_a_file_names_its_address(memory, home: Path) -> None:
    put(memory, "/t/d.csv", b"a,label\n1,\n2,1")
    with pytest.raises(DataError, match=r"memory://t/d\.csv") as raised:
        opened("memory://t/d.csv", "table")
    assert str(home) not in str(raised.value)


def test_a_disk_that_is_too_small(memory, monkeypatch) -> None:
    import shutil

    put(memory, "/d.npz", archive())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 10))
    with pytest.raises(DataError, match=r"0 MB free: make room.*SLIMLINE_HOME"):
        opened("memory://d.npz")


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("https://user:geheim@host/d.npz", "geheim"),
        ("https://geheim@host/d.npz", "geheim"),
        ("s3://id:geheim@bucket/d.npz", "geheim"),
        ("https://host/d.npz?X-Amz-Credential=geheim&X-Amz-Date=1", "geheim"),
        ("https://host/d.npz?sv=1&sig=geheim", "geheim"),
        ("zip://d.npz::https://host/a.zip?access_token=geheim", "geheim"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(address: str, secret: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.source: .*has a secret in it.*FSSPEC_HTTPS") as raised:
        check_settings({"name": "a", "data": {"reader": "npz", "source": address}})
    (tmp_path / "r.yaml").write_text(f"name: a\ndata: {{reader: npz, test_source: '{address}'}}")
    with pytest.raises(RecipeError) as of_file:
        read_recipe(tmp_path / "r.yaml")
    for kind in (DataConfig, NewDataConfig):
        with pytest.raises(ValueError, match="has a secret in it") as plain:
            kind(reader="npz", source=address)
        assert secret not in f"{raised.value} {of_file.value} {plain.value}"


def test_addresses_without_a_secret_are_as_they_are() -> None:
    for address in (
        "sftp://me@host/d.npz",
        "hf://datasets/a/b@main/d.parquet",
        "https://host/d?version=3&v=@1",
        "a@b:c",
    ):
        assert without_secrets(address) == address
    assert without_secrets("got https://a:b@c/?sig=d, no") == f"got https://{HIDDEN}@c/?sig={HIDDEN} no"


def test_an_address_in_a_recipe_is_no_path_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: a\ndata: {reader: tfrecord, source: 's3://b/d', test_source: here/t}")
    data = read_recipe(tmp_path / "recipe.yaml").data
    assert data.source == "s3://b/d"
    assert data.test_source == str(tmp_path / "here" / "t")
