"""Data that were prepared: reused by content wherever they lie now, and refused when they change under a run."""

import os
import shutil

import numpy as np
import pytest

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_prepared
from tasks.prepare import prepare_data

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


def test_data_that_change_under_a_run_are_refused(archive):
    prepared = prepare_data(DataConfig(reader="npz", source=str(archive)))
    with np.load(archive) as arrays:
        np.savez(archive.with_name("other.npz"), x=arrays["x"] + 1, y=arrays["y"])
    os.replace(archive.with_name("other.npz"), archive)
    with pytest.raises(DataError, match="has changed since this run began"):
        open_prepared(prepared)
