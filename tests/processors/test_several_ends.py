"""A version with two inputs and two outputs on every processor that is here, compared output by output."""

import numpy as np
import pytest
import several_ends

from tasks.processors.versions import everywhere


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return several_ends.lay_out(tmp_path_factory.mktemp("two") / "version", "onnxruntime", "litert")[0]


def test_every_processor_answers_as_was_recorded(version):
    results = everywhere(version)
    assert {file.target for file in results.files} == {"onnxruntime", "litert"}
    assert results.holds, [file for file in results.files if not file.holds]
    assert all(file.examples == 16 for file in results.files)
    assert all(file.furthest < 1e-2 for file in results.files)


def test_one_output_of_two_is_looked_at_by_itself(version, monkeypatch):
    """It would be noise of the other one, whose answers are a hundred times as large."""
    from tasks.processors import PROCESSORS, versions

    monkeypatch.setattr(versions, "PROCESSORS", {"this": PROCESSORS["this"]})
    place = version.folder / "sample.npz"
    whole = place.read_bytes()
    with np.load(place) as sample:
        kept = dict(sample)
    kept["litert"]["kind"] += np.float32(5e-4)
    np.savez(place, **kept)
    try:
        by_target = {file.target: file.holds for file in everywhere(version).files}
    finally:
        place.write_bytes(whole)
    assert by_target == {"onnxruntime": True, "litert": False}


def test_integers_are_the_same_everywhere(tmp_path):
    version, _, _ = several_ends.lay_out(tmp_path / "version", "onnxruntime", "litert", integers=True)
    results = everywhere(version)
    assert results.holds, [file for file in results.files if not file.holds]
    assert all(file.steps is not None for file in results.files)
