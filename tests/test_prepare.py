"""Data that were prepared: reused by content wherever they lie now, and refused when they change under a run."""

import os
import shutil

import numpy as np
import pytest

from flows.check import check
from flows.recipe import Recipe
from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_prepared
from tasks.prepare import prepare_data

FUNCTION = """
from pathlib import Path
import numpy as np
def chunks():
    with open("calls", "a") as calls:
        calls.write("1")
    x = np.arange(120.0).reshape(60, 2) + Path("added").exists()
    for start in range(0, 60, 20):
        yield x[start:start + 20], np.arange(start, start + 20) % 2
"""

pytestmark = pytest.mark.usefixtures("prefect_server", "store")


@pytest.fixture
def archive(tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "here.npz", x=draw.normal(size=(200, 3)).astype(np.float32), y=np.arange(200) % 2)
    return tmp_path / "here.npz"


def test_what_is_reused_is_read_from_where_it_lies_now(archive):
    first = prepare_data(DataConfig(reader="npz", source=str(archive)))
    moved = shutil.move(archive, archive.with_name("there.npz"))
    again = prepare_data(DataConfig(reader="npz", source=str(moved)))
    assert (again.run, again.digest) == (first.run, first.digest)
    assert again.fingerprint() == first.fingerprint()
    assert open_prepared(again).counts == first.counts
    with pytest.raises(DataError, match=r"here\.npz"):
        open_prepared(first)


def test_a_function_is_called_once_in_a_run_and_again_in_the_next(tmp_path, monkeypatch):
    """For checks, keys, profile and stages together; a generator is asked again only where it streams."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted.py").write_text(FUNCTION)
    for number in (1, 2):
        config = DataConfig(reader="function", source="counted:chunks")
        check(Recipe(name="a", data=config, teacher={"model": "mlp"}))
        prepared = prepare_data(config)
        open_prepared(prepared).arrays("train")
        assert len((tmp_path / "calls").read_text()) == number
    changed = tmp_path / "added"
    changed.write_text("1")
    check(Recipe(name="a", data=config, teacher={"model": "mlp"}))
    assert prepare_data(config).digest != prepared.digest, "it gives something else now"


def test_data_that_change_under_a_run_are_refused(archive):
    prepared = prepare_data(DataConfig(reader="npz", source=str(archive)))
    with np.load(archive) as arrays:
        np.savez(archive.with_name("other.npz"), x=arrays["x"] + 1, y=arrays["y"])
    os.replace(archive.with_name("other.npz"), archive)
    with pytest.raises(DataError, match="has changed since this run began"):
        open_prepared(prepared)
