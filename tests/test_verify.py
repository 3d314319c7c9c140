"""A registered version compared with its own evidence: it holds, and what was changed is named."""

import json
import subprocess
import sys

import pytest
from command_line import ROOT
from registered import versions

from tasks.contract.errors import VersionError


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    targets = {"targets": ["onnxruntime", "litert", "tensorrt"]}
    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1, **targets}):
        yield home


def verification(result):
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of
    from tasks.verify import open_verification

    (stage,) = stages_of(result.mlflow_url.rpartition("/")[2])
    return open_verification(tracking.download(f"runs:/{stage.run}/verification"))


def test_what_was_recorded_is_so(home):
    from flows.verify import verify

    result = verify("models:/tiny@candidate")
    assert result.holds
    what = {check.what for check in verification(result).checks}
    assert {"recipe, sha256", "evidence, sha256", "data, digest", "tensorrt file, sha256"} <= what
    for target in ("onnxruntime", "litert"):
        assert {f"{target} accuracy and interval", f"{target} share in integers", f"{target} bytes"} <= what
    assert verification(result).not_run == ("tensorrt",)
    assert "tensorrt does not run here" in result.page
    timings = {timing.target: timing for timing in verification(result).timings}
    assert set(timings) == {"onnxruntime", "litert"}
    assert all(timing.comparable and timing.found_ms > 0 for timing in timings.values())


def changed(home, name, change):
    """A file of the version in the store, changed while the block lasts."""
    from contextlib import contextmanager

    from tasks.store import tracking

    @contextmanager
    def block():
        file = tracking.download("models:/tiny/1") / name
        kept = file.read_bytes()
        file.write_bytes(change(kept))
        try:
            yield
        finally:
            file.write_bytes(kept)

    return block()


def flattered(content: bytes) -> bytes:
    """Evidence that claims a point more."""
    evidence = json.loads(content)
    for file in evidence["files"]:
        if file["shipped"]:
            file["accuracy"]["estimate"] = min(file["accuracy"]["estimate"] + 0.01, file["accuracy"]["high"])
    return json.dumps(evidence).encode()


def test_evidence_that_claims_more_is_found_out_twice(home):
    from flows.verify import verify

    with changed(home, "evidence/evidence.json", flattered):
        result = verify("models:/tiny/1")
    assert not result.holds
    wrong = {check.what for check in verification(result).checks if not check.holds}
    assert wrong == {"evidence, sha256", "onnxruntime accuracy and interval", "litert accuracy and interval"}
    assert "**differs**" in result.page


def test_a_recipe_that_was_changed_is_found_out(home):
    from flows.verify import verify

    with changed(home, "recipe.yaml", lambda content: content.replace(b"epochs: 8", b"epochs: 9")):
        result = verify("models:/tiny/1")
    assert {check.what for check in verification(result).checks if not check.holds} == {"recipe, sha256"}


def test_a_file_that_was_changed_is_refused(home):
    from flows.verify import verify

    with (
        changed(home, "formats/litert/model.tflite", lambda content: content + b"\0"),
        pytest.raises(VersionError, match="its litert file is not the one that was measured"),
    ):
        verify("models:/tiny/1")


def test_the_command_line(home):
    command = [sys.executable, "-m", "flows.cli", "verify"]
    done = subprocess.run([*command, "models:/tiny/1"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "everything that was recorded is so" in done.stdout
    none = subprocess.run([*command, "models:/tiny/9"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert none.returncode == 2
    assert "there is no such version" in none.stderr
