"""What is asked, kept beside answering: a share of it, each example once, as data that monitoring takes."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import several_ends
from registered import version_folder, versions
from serving_process import ROOT, laid_out, question, serving

from tasks.contract.errors import OptionWrong
from tasks.contract.named import fields, packed
from tasks.data import DataConfig
from tasks.data.new import NewDataConfig, open_new
from tasks.drift.limits import MonitorConfig
from tasks.drift.profile import open_profile
from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.serving import beside
from tasks.serving.beside import Answered, Beside
from tasks.serving.limits import ServeConfig
from tasks.serving.record import AT, BY, Record, check_recordable
from tasks.serving.served import Served, open_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    from tasks.store import registry

    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1}):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield home


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, prefect_server, empty_store) -> Path:
    version = version_folder(tmp_path_factory, empty_store, {"seed": 1})
    return laid_out(version, tmp_path_factory.mktemp("served") / "one", 1)


@pytest.fixture
def served(tiny) -> Served:
    return open_folder(tiny, 1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().images[..., None].astype(np.float32)


def config(share: float = 1, rows: int = 10_000) -> ServeConfig:
    return ServeConfig(record=share, record_rows=rows)


def archive(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def hand(record: Record, served: Served, x: np.ndarray) -> None:
    record.take(Answered(served, x, served.call(x)))


@pytest.mark.slow
def test_what_was_asked_is_monitored(home, digits):
    """Served, asked, ended; then measured as new data without labels."""
    from flows.monitor import monitor

    unseen, kept = np.unique(digits[600:1400], axis=0), home / "record" / "tiny.npz"
    command = ["flows.cli", "serve", "models:/tiny@champion", "--record", "40%"]
    with serving(home, command, SLIMLINE_HOME=str(home)) as server:
        name = httpx.get(f"{server.url}/v2/models/tiny").json()["inputs"][0]["name"]
        for start in (*range(0, len(unseen), 100), 0):  # the first ones twice
            sent = question(unseen[start : start + 100], name)
            assert httpx.post(f"{server.url}/v2/models/tiny/infer", json=sent).status_code == 200
        other = [sys.executable, "-m", *command, "--http-port", "1", "--grpc-port", "2"]
        refused = subprocess.run(
            other, cwd=ROOT, env={**os.environ, "SLIMLINE_HOME": str(home)}, capture_output=True, text=True, timeout=120
        )
        assert refused.returncode == 2
        assert "what tiny is asked cannot be kept: another server keeps it there" in " ".join(refused.stderr.split())
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'slimline_left_out_requests_total{by="record"} 0.0' in metrics
        assert server.end() == 0
    arrays = archive(kept)
    count = len(arrays["x"])
    assert 0.3 * len(unseen) < count < 0.5 * len(unseen), "a share, by content"
    assert f'slimline_recorded_examples{{model="tiny"}} {count:.1f}' in metrics
    assert len(np.unique(arrays["x"], axis=0)) == count, "each once"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert set(arrays[BY]) == {"1"}
    assert abs(arrays[AT] - time.time()).max() < 600
    limits = MonitorConfig(latency_rounds=20, max_slowdown=100)
    result = monitor("tiny", NewDataConfig(source=str(kept), labels=False), limits)
    assert result.examples == count
    assert result.score is None
    assert not result.degraded, result.reasons


def test_the_share_is_of_content_and_the_answers_are_those_that_were_given(served, digits, tmp_path):
    x = np.unique(digits[:500], axis=0)
    records = [Record(tmp_path / name / "tiny.npz", served, config(0.3)) for name in ("one", "other")]
    for number, record in enumerate(records):
        for start in range(0, len(x), 50 + number):
            hand(record, served, x[start : start + 50 + number])
        record.write()
    one, other = (archive(record.file) for record in records)
    np.testing.assert_array_equal(one["x"], other["x"])
    assert 0.2 * len(x) < len(one["x"]) < 0.4 * len(x)
    (answers,) = (values for key, values in one.items() if key.startswith("answers."))
    np.testing.assert_allclose(answers, served.call(one["x"]), atol=1e-6)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_oldest_go_and_a_record_goes_on(served, digits, tmp_path):
    x, file = np.unique(digits[:100], axis=0)[:60], tmp_path / "record" / "tiny.npz"
    record = Record(file, served, config(rows=30))
    hand(record, served, x[:40])
    hand(record, served, x[10:15])  # asked again: the newest of all
    record.write()
    np.testing.assert_array_equal(archive(file)["x"], np.concatenate([x[15:40], x[10:15]]))
    again = Record(file, dataclasses.replace(served, version="2"), config(rows=30))
    hand(again, dataclasses.replace(served, version="2"), x[40:50])
    again.write()
    np.testing.assert_array_equal(archive(file)["x"], np.concatenate([x[25:40], x[10:15], x[40:50]]))
    assert list(archive(file)[BY]) == ["1"] * 20 + ["2"] * 10


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"PK"), lambda file: np.savez(file, x=np.ones(3))])
def test_what_is_no_record_of_the_model_is_begun_anew(served, digits, tmp_path, spoil):
    file = tmp_path / "tiny.npz"
    spoil(file)
    record = Record(file, served, config())
    hand(record, served, digits[:3])
    record.write()
    np.testing.assert_array_equal(archive(file)["x"], digits[:3])


def test_several_inputs_and_outputs_are_read_as_they_were_asked(tmp_path):
    version, x, _ = several_ends.lay_out(tmp_path / "version", "onnxruntime")
    served = open_folder(laid_out(version.folder, tmp_path / "two", 1), 1)
    record = Record(tmp_path / "two.npz", served, config())
    hand(record, served, x)
    record.write()
    kept, given = archive(record.file), fields(served.call(x))
    for name in ("kind", "box"):
        np.testing.assert_allclose(kept[f"answers.{name}"], given[name], rtol=1e-5)
    profile = open_profile(version.folder)
    new = NewDataConfig(source=str(record.file), labels=False, input="scene, facts")
    read = open_new(
        new.beside(DataConfig(reader="digits")),
        labels=False,
        inputs=profile.each_input,
        heads=profile.each_head,
        limit=100,
    )
    order = np.argsort(read.x["facts"][:, 0])
    expected = x[np.argsort(x["facts"][:, 0])]
    for name in ("scene", "facts"):
        np.testing.assert_array_equal(read.x[name][order], expected[name])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float16", "int64"])
def test_types_are_kept(served, tmp_path, dtype):
    own = dataclasses.replace(served, inputs=(TensorSpec("ids", dtype, (4,)), TensorSpec("file", "float32", (2,))))
    check_recordable(own, config())
    x = packed({"ids": np.arange(12).reshape(3, 4).astype(dtype), "file": np.arange(6, dtype=np.float32).reshape(3, 2)})
    record = Record(tmp_path / "tiny.npz", own, config())
    record.take(Answered(own, x, np.ones((3, 10), np.float32)))
    record.write()
    assert archive(record.file)["ids"].dtype == dtype
    for name in ("ids", "file"):
        np.testing.assert_array_equal(archive(record.file)[name], x[name])
    assert len(Record(record.file, own, config()).rows) == 3


def test_what_cannot_be_kept_is_refused(served):
    for spec in (TensorSpec("one", "float32", ()), TensorSpec("any", "float32", (-1, 3)), TensorSpec("s", "<U3", (2,))):
        with pytest.raises(OptionWrong, match=f"--record: .*{spec.name} is {spec.dtype} of shape"):
            check_recordable(dataclasses.replace(served, inputs=(spec,)), config())
    with pytest.raises(OptionWrong, match=r"--record-rows: .*an example of tiny takes 296 bytes .* 906,876 fit"):
        check_recordable(served, config(rows=906_877))
    check_recordable(served, config(rows=906_876))


def test_a_state_folder_that_cannot_be_written_is_refused(tiny, tmp_path):
    (tmp_path / "home").write_text("a file")
    command = [sys.executable, "-m", "tasks.serving", str(tiny), "--record", "1%"]
    environment = {**os.environ, "SLIMLINE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "--record: 0.01: what tiny is asked cannot be kept: " in done.stderr


def test_nothing_waits_for_a_thread_that_is_slow(served, digits, monkeypatch):
    """What does not fit is left out and counted, and what it fails at does not end it."""
    go, begun, taken = threading.Event(), threading.Event(), []

    def take(answered: Answered) -> None:
        begun.set()
        go.wait(30)
        taken.append(len(answered.x))
        if len(taken) == 2:
            raise OSError("disk full")

    one = Answered(served, digits[:1], served.call(digits[:1]))
    monkeypatch.setattr(beside, "MOST_BYTES", 3 * (beside.LEAST + one.x.nbytes + one.answers.nbytes))
    thread = Beside("test", take, lambda: taken.append(0), 1000)
    before = thread.left_out._value.get()
    thread.hand(one)
    assert begun.wait(30)
    began = time.monotonic()
    for _ in range(9):
        thread.hand(one)
    assert time.monotonic() - began < 1
    assert thread.left_out._value.get() - before == 7
    go.set()
    thread.end()
    assert taken == [1, 1, 1, 0]
