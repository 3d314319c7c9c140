"""Registered versions of a tiny model, made by the real flow in seconds each, in a state folder of their own."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from stores import home_at

RECIPE = {
    "name": "tiny",
    "data": {"reader": "digits", "limit": 600, "test": 0.25},
    "teacher": {"model": "cnn", "width": 0.25, "fit": {"epochs": 8, "batch_size": 32, "learning_rate": 0.01}},
    "distill": {"method": "none"},
    "prune": {"method": "none"},
    "quantize": {"method": "none"},
    "targets": ["onnxruntime"],
    "validate": {"latency_rounds": 20, "latency_seconds": 1},
    "budget": {"max_accuracy_drop": 0.05},
    "promote": {"tolerance": 0.15},  # 150 test examples leave wide intervals
}


# A file for every target, in integers; the program for small devices has to reckon in steps then.
EVERY_TARGET = {
    "targets": ["onnxruntime", "litert", "savedmodel", "tensorrt"],
    "quantize": {"method": "post_training"},
    "convert": {"litert_io": "int8"},
}


@contextmanager
def versions(home: Path, empty_store: Path, *settings: dict) -> Iterator[None]:
    """Versions 1, 2, … of `tiny`, each with these settings changed, in `home`, which is the state folder meanwhile."""
    from flows.compression import compress
    from flows.recipe_file import check_settings

    shutil.copy(empty_store, home / "mlflow.db")
    with home_at(home):
        for changed in settings:
            compress(check_settings({**RECIPE, **changed}))
        yield


@contextmanager
def sealed_anew(number: int) -> Iterator[None]:
    """A version with a manifest of the files as they are, and its digest in the registry: who owns both can do so."""
    from tasks.store import registry, tracking
    from tasks.versions.manifest import MANIFEST, SUMS, write_manifest
    from tasks.versions.registered import MANIFEST_TAG
    from tasks.versions.version import MLFLOW_NOTE

    folder = tracking.download(f"models:/tiny/{number}")
    kept = {name: (folder / name).read_bytes() for name in (MANIFEST, SUMS)}
    tag = registry.version_of("tiny", number).tags[MANIFEST_TAG]
    for name in (MANIFEST, MLFLOW_NOTE):
        (folder / name).unlink()
    registry.tag_version("tiny", number, {MANIFEST_TAG: write_manifest(folder)})
    try:
        yield
    finally:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        registry.tag_version("tiny", number, {MANIFEST_TAG: tag})


def version_folder(factory: pytest.TempPathFactory, empty_store: Path, settings: dict) -> Path:
    """The files of version 1 with these settings, for those who need no registry; needs `prefect_server`.

    It is made once for all modules and workers of a session, and each gets a copy.
    """
    from tasks.store import tracking

    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder in the session's
        session = session.parent
    made = session / f"version-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            with versions(factory.mktemp("state"), empty_store, settings):
                shutil.copytree(tracking.download("models:/tiny/1"), f"{made}.partial")
            Path(f"{made}.partial").rename(made)
    return Path(shutil.copytree(made, factory.mktemp("version") / "1"))


def register_file(folder, name="moved"):
    """A version with one file, as `slimline run` registers it; gives its run too."""
    from tasks.store import registry, tracking

    (folder / "files").mkdir(parents=True)
    (folder / "files" / "model.onnx").write_text("weights")
    run = tracking.start_run("register", {}, {})
    tracking.log_text(run, "evidence", "evidence.txt")
    version = registry.register(run, name, folder / "files", {"slimline.content": "1"}, {"accuracy": 0.5}, "card", "")
    registry.set_alias(name, registry.CANDIDATE, version.version)
    tracking.end_run(run, failed=False)
    return run, version
