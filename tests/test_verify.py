"""A registered version compared with its own evidence: it holds, and what was changed is named."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from command_line import ROOT
from registered import sealed_anew, versions
from stores import run_at

from tasks.contract.errors import VersionDamaged


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

    (stage,) = stages_of(run_at(result.mlflow_url))
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


@contextmanager
def changed(name: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """A file of the version in the store, changed while the block lasts; one that is not there is made."""
    from tasks.store import tracking

    file = tracking.download("models:/tiny/1") / name
    kept = file.read_bytes() if file.exists() else None
    changed = change(kept or b"")
    file.unlink(missing_ok=True) if changed is None else file.write_bytes(changed)
    try:
        yield
    finally:
        file.unlink() if kept is None else file.write_bytes(kept)


def more(content: bytes) -> bytes:
    return content + b"\n"


def flattered(content: bytes) -> bytes:
    """Evidence that claims a point more."""
    evidence = json.loads(content)
    for file in evidence["files"]:
        if file["shipped"]:
            file["accuracy"]["estimate"] = min(file["accuracy"]["estimate"] + 0.01, file["accuracy"]["high"])
    return json.dumps(evidence).encode()


def test_evidence_that_claims_more_is_found_out_by_its_digest_and_by_asking_again(home):
    from flows.verify import verify

    with changed("evidence/evidence.json", flattered), sealed_anew(1):
        result = verify("models:/tiny/1")
    assert not result.holds
    wrong = {check.what for check in verification(result).checks if not check.holds}
    assert wrong == {"evidence, sha256", "onnxruntime accuracy and interval", "litert accuracy and interval"}
    assert "**differs**" in result.page


def test_a_recipe_that_was_changed_is_found_out_by_its_own_digest_too(home):
    from flows.verify import verify

    with changed("recipe.yaml", lambda content: content.replace(b"epochs: 8", b"epochs: 9")), sealed_anew(1):
        result = verify("models:/tiny/1")
    assert {check.what for check in verification(result).checks if not check.holds} == {"recipe, sha256"}


def test_every_file_that_a_version_has_is_checked(home):
    """A file at a time, so that none is left out; what a version has is read from it, not listed here."""
    from tasks.store import tracking
    from tasks.versions.registered import open_registered
    from tasks.versions.version import MLFLOW_NOTE

    folder = tracking.download("models:/tiny/1")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert {"MLmodel", "labels.json", "profile.json", "sample.npz", "requirements.txt", "README.md"} <= set(names)
    for name in names:
        if name != MLFLOW_NOTE:
            with changed(name, more), pytest.raises(VersionDamaged) as damage:
                open_registered("models:/tiny/1")
            assert name in {each.file for each in damage.value.differences if each.kind == "damaged"}
    assert open_registered("models:/tiny/1").manifest


def test_damaged_missing_and_extra_files_are_one_table(home):
    from flows.verify import verify

    with (
        changed("MLmodel", lambda content: content.replace(b"model.onnx", b"other.onnx")),
        changed("other.onnx", lambda _: b"another model"),
        changed("labels.json", lambda _: None),
    ):
        result = verify("models:/tiny/1")
    assert not result.holds
    rows = [line.split("|") for line in result.page.splitlines() if line.startswith("| ")][2:]
    assert {row[1].strip(): row[4].strip() for row in rows} == {
        "MLmodel": "**damaged**",
        "labels.json": "**missing**",
        "other.onnx": "**extra**",
    }
    assert verify("models:/tiny/1").holds


def test_another_file_is_served_by_nobody(home, tmp_path):
    """An MLmodel that points at another ONNX file answers with that one where MLflow is asked alone."""
    from flows.deploy import deploy
    from flows.promote import promote

    with (
        changed("MLmodel", lambda content: content.replace(b"model.onnx", b"other.onnx")),
        changed("other.onnx", lambda _: b"another model"),
    ):
        wrong = r"damaged MLmodel .*\n- extra   other\.onnx"
        for opens in (lambda: deploy("models:/tiny/1", to="edge"), lambda: promote("tiny")):
            with pytest.raises(VersionDamaged, match=wrong):
                opens()
        command = [sys.executable, "-m", "flows.cli", "serve", "models:/tiny/1"]
        served = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert served.returncode == 1
        assert re.search(wrong, served.stderr)


def test_a_version_of_before_there_were_manifests_says_what_nobody_checked(home):
    from flows.verify import verify
    from tasks.store import tracking
    from tasks.versions.manifest import MANIFEST
    from tasks.versions.registered import MANIFEST_TAG, open_registered

    with sealed_anew(1):
        tracking.client().delete_model_version_tag("tiny", "1", MANIFEST_TAG)
        with pytest.raises(VersionDamaged, match=r"extra   manifest\.json"):  # the tag alone was taken away
            open_registered("models:/tiny/1")
        (tracking.download("models:/tiny/1") / MANIFEST).unlink()
        result = verify("models:/tiny/1")
        assert result.holds
        assert "registered before versions had a manifest" in result.page
        with (
            changed("formats/litert/model.tflite", more),
            pytest.raises(VersionDamaged, match=r"damaged formats/litert/model\.tflite"),
        ):
            open_registered("models:/tiny/1")
    assert "registered before" not in verify("models:/tiny/1").page


def test_the_command_line(home):
    command = [sys.executable, "-m", "flows.cli", "verify"]
    done = subprocess.run([*command, "models:/tiny/1"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "everything that was recorded is so" in done.stdout
    with changed("labels.json", more):
        wrong = subprocess.run([*command, "models:/tiny/1"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 1, wrong.stderr
    assert "labels.json" in wrong.stdout
    assert "damaged" in wrong.stdout
    none = subprocess.run([*command, "models:/tiny/9"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert none.returncode == 2
    said = " ".join(none.stderr.split())
    assert f"there is no such version in sqlite:///{home}/mlflow.db" in said.replace("mlflow.db:", "mlflow.db")
    assert "work in its folder, or name it in SLIMLINE_HOME" in said
