"""A version whose file can saturate, as older ones may: verify, promote, deploy and serve say so, and where."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from integer_kernels import push_over
from registered import versions
from serving_process import laid_out

from tasks.bundle import bundle
from tasks.bundles.contents import BundleConfig, Contents
from tasks.compare import compare
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.saturation import processor_saturates
from tasks.versions.version import OpenVersion, open_version

WORDS = "can saturate on x86 processors without VNNI (layers logits)"
SATURATES = "no: layers logits can saturate on x86 without VNNI"
SETTINGS = {"targets": ["onnxruntime", "litert"], "quantize": {"method": "post_training"}}


@pytest.fixture(scope="module")
def version(tmp_path_factory, prefect_server, empty_store):
    """A registered version in integers, none of which can saturate."""
    from tasks.store import tracking

    with versions(tmp_path_factory.mktemp("state"), empty_store, SETTINGS):
        yield open_version("models:/tiny/1", tracking.download("models:/tiny/1"))


@pytest.fixture(scope="module")
def older(version, tmp_path_factory) -> OpenVersion:
    """The same with a layer that can, and evidence of a time when nobody looked."""
    folder = tmp_path_factory.mktemp("older") / "version"
    shutil.copytree(version.folder, folder)
    (folder / onnx.FILE).chmod(0o644)
    push_over(folder / onnx.FILE, "logits")
    with np.load(folder / "sample.npz") as sample:
        kept = dict(sample)
    kept["onnxruntime"] = onnx.load(folder)(kept["examples"])
    np.savez(folder / "sample.npz", **kept)
    evidence = json.loads((folder / "evidence" / "evidence.json").read_text())
    for file in evidence["files"]:
        for layer in file["audit"]["layers"]:
            del layer["saturates"]
    (folder / "evidence" / "evidence.json").write_text(json.dumps(evidence))
    return OpenVersion(version.uri, folder, type(version.evidence).model_validate(evidence))


@pytest.fixture
def notes(monkeypatch):
    """The notes that people see while the test lasts."""
    from tasks.contract import progress

    messages: list[str] = []

    class Notes(progress.RunLog):
        def note(self, stage: str, message: str) -> None:
            messages.append(message)

    before = progress.listener()
    progress.listen(Notes())
    yield messages
    progress.listen(before)


def verified(version: OpenVersion):
    from flows.recipe_file import registered_recipe
    from tasks.data import open_data
    from tasks.verify import verify

    recipe = registered_recipe("models:/tiny/1")
    return verify(version, {}, open_data(recipe.data), recipe.validation, seed=recipe.seed)


def rows(verification) -> dict[str, tuple[str, str, bool]]:
    return {
        check.what.split()[0]: (check.recorded, check.found, check.holds)
        for check in verification.checks
        if "same integers" in check.what
    }


def test_verify_has_a_row_for_each_file(version, notes):
    from tasks.verify import as_markdown

    verification = verified(version)
    assert rows(verification) == {"onnxruntime": ("yes", "yes", True), "litert": ("yes", "yes", True)}
    assert verification.saturating == ()
    assert "can saturate" not in as_markdown(verification) + "".join(notes)


def test_verify_says_which_file_can_saturate_and_what_was_not_looked_at(older, notes):
    from tasks.verify import as_markdown

    verification = verified(older)
    assert rows(verification)["onnxruntime"] == ("not looked at", SATURATES, True), "no breach of what was recorded"
    assert rows(verification)["litert"] == ("not looked at", "yes", True)
    (sentence,) = verification.saturating
    assert sentence.startswith(f"The onnxruntime file of models:/tiny/1 {WORDS}")
    assert ("opens it with unsigned weights" in sentence) == processor_saturates()
    assert sentence in as_markdown(verification)
    assert any(WORDS in note for note in notes)


def test_verify_finds_evidence_that_says_otherwise(version, older):
    boasting = OpenVersion(older.uri, older.folder, version.evidence)
    assert rows(verified(boasting))["onnxruntime"] == ("yes", SATURATES, False)


def test_promote_notes_it_for_either_side(version, older, notes):
    from flows.recipe_file import registered_recipe
    from tasks.data import open_data

    recipe = registered_recipe("models:/tiny/1")
    sides = {"candidate": (2, version), "champion": (1, older)}
    comparison = compare("tiny", sides, open_data(recipe.data), recipe.validation, seed=0)
    (note,) = [note for note in comparison.notes if "can saturate" in note]
    assert note.startswith(f"The champion's onnxruntime file {WORDS}")
    assert not any("speed-up against the teacher" in note for note in comparison.notes)


def test_figures_of_another_processor_are_said_to_be(version):
    from flows.recipe_file import registered_recipe
    from tasks.data import open_data

    evidence = version.evidence
    machine = evidence.machine.model_copy(update={"instruction_sets": ("avx2",)})
    elsewhere = OpenVersion(version.uri, version.folder, evidence.model_copy(update={"machine": machine}))
    recipe = registered_recipe("models:/tiny/1")
    comparison = compare("tiny", {"candidate": (2, elsewhere)}, open_data(recipe.data), recipe.validation, seed=0)
    (note,) = [note for note in comparison.notes if "speed-up against the teacher" in note]
    assert f"registered on {evidence.machine.processor} (AVX2, no VNNI)" in note
    timings = verified(elsewhere).timings
    assert timings
    assert not any(timing.comparable for timing in timings)


@pytest.mark.parametrize(
    ("server", "row"),
    [("docker", "no: without VNNI, x86 processors can saturate in logits"), ("edge", "yes")],
)
def test_a_bundle_s_readme_and_log_say_it(server, row, older, tmp_path, notes):
    bundle(tmp_path, server, Contents("tiny", 1, older, BundleConfig()))
    assert f"| same integers on every processor | {row}" in (tmp_path / "README.md").read_text()
    assert [WORDS in note for note in notes] == [True] * (server == "docker")


def test_a_bundle_of_a_file_that_cannot_says_so(version, tmp_path, notes):
    bundle(tmp_path, "docker", Contents("tiny", 1, version, BundleConfig()))
    assert "| same integers on every processor | yes |" in (tmp_path / "README.md").read_text()
    assert notes == []


def test_the_server_s_log_says_it_and_serves(older, version, tmp_path, caplog):
    from tasks.serving.served import open_folder

    with caplog.at_level(logging.WARNING, "slimline.serving"):
        open_folder(laid_out(version.folder, tmp_path / "sound", 1), 1)
        assert not caplog.records
        served = open_folder(laid_out(Path(older.folder), tmp_path / "older", 1), 1)
    assert f"the file of tiny version 1 {WORDS}" in caplog.text
    assert served.seconds > 0
