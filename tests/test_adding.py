"""A reader, an architecture, a format, a stage and a server more: in the files that CONTRIBUTING names, and no other.

Each is added to a copy of the code, and one run of that copy uses them all.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

READER = '''"""Two classes that a line parts."""

import numpy as np

from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part


def read(config: DataConfig) -> Source:  # noqa: ARG001
    """400 examples `(400, 6)`."""
    x = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    return Source({"all": array_part(x, (x.sum(axis=1) > 0).astype(np.int64))}, ("below", "above"))


READER = Reader(read, lambda config: "1", fields=())
'''
ARCHITECTURE = '''"""One layer."""

import tensorflow as tf

from tasks.zoo.ends import ModelEnds, close_end, open_end


def build(ends: ModelEnds, width: float) -> tf.keras.Model:  # noqa: ARG001
    """Eight units and their sum."""
    inputs, x = open_end(ends)
    return close_end(ends, inputs, tf.keras.layers.Dense(8, activation="relu", name="only")(x), "line")
'''
FORMAT = '''"""Keras' own file as a target of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.formats.audit import Audit, LayerAudit
from tasks.formats.keras import files as keras

FILE = keras.FILE
TITLE = "Keras"
PRECISIONS = ("float32",)
RUNS_HERE = True
STEPS = (2.0, 0.75)
REQUIREMENTS = ("tf-keras",)


def write(model, folder: Path, precision, *, classes=()) -> None:
    """The model as it is."""
    keras.write(model, folder)


def load(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Answers `(n, …)` to inputs `(n, …)`."""
    model = keras.load(folder)
    return lambda x: model(x, training=False).numpy()


def saturating(folder: Path) -> tuple[str, ...]:
    """Floats do not."""
    return ()


def audit(folder: Path, example: np.ndarray) -> Audit:
    """One kernel, in float."""
    layer = LayerAudit(name="only", kernel="MatMul", macs=48, integer=False, why="Keras computes in float")
    return Audit(layers=(layer,), kernels={"MatMul": 1})
'''
STAGE = '''"""Halve: a stage that makes every kernel half as large, to have been one."""

from pydantic import BaseModel, Field

from tasks.contract.artifact import ModelArtifact
from tasks.formats.keras import files as keras
from tasks.store import tracking
from tasks.store.stage import StageRun, stage


class HalveConfig(BaseModel, frozen=True, extra="forbid"):
    """How often."""

    times: int = Field(0, ge=0, description="More makes kernels smaller.")


def halve(model, config: HalveConfig):
    """The same model with `1 / 2**times` of each kernel."""
    model.set_weights([w / 2**config.times if w.ndim > 1 else w for w in model.get_weights()])
    return model


@stage("halve")
def halve_student(run: StageRun, student: ModelArtifact, config: HalveConfig) -> ModelArtifact:
    """Halve the student, and keep it."""
    halved = halve(keras.load(tracking.fetch(student)), config)
    return run.keep(lambda folder: keras.write(halved, folder), "keras", parent=student)
'''
SERVER = '''"""A folder that holds the file and nothing else."""

import shutil
from pathlib import Path
from typing import Any

from tasks.bundles.contents import Contents
from tasks.bundles.trial import TrialResult

TARGET = "onnxruntime"
START = "ls model.onnx"


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `model.onnx`."""
    shutil.copyfile(contents.files("shelf", TARGET) / "model.onnx", folder / "model.onnx")


def trial(folder: Path, about: dict[str, Any], **_: Any) -> TrialResult:
    """Nothing is started."""
    assert (folder / "model.onnx").is_file()
    return TrialResult(
        server="shelf", server_run=False, ran="nothing", examples=1, largest_difference=0, latency_p50_ms={},
        measured_p50_ms=about["measured_p50_ms"],
    )
'''
# What is added: its file, what stands in it, and in other files what is put before which line.
ADDED = {
    "a reader": (
        ("tasks/data/readers/line.py", READER),
        ("tasks/data/__init__.py", "from tasks.data.readers import (", "from tasks.data.readers import line\n"),
        ("tasks/data/__init__.py", '    "digits": digits.READER', '    "line": line.READER,\n'),
        ("tasks/data/config.py", '    "digits",\n    "shapes"', '    "line",\n'),
    ),
    "an architecture": (
        ("tasks/zoo/line.py", ARCHITECTURE),
        ("tasks/zoo/__init__.py", "from tasks.zoo import (", "from tasks.zoo import line\n"),
        ("tasks/zoo/__init__.py", '        Architecture("cnn"', '        Architecture("line", line.build, rank=1),\n'),
    ),
    "a format": (
        ("tasks/formats/kerasfile/__init__.py", '"""Keras files."""\n'),
        ("tasks/formats/kerasfile/files.py", FORMAT),
        ("tasks/formats/__init__.py", "FORMATS: dict", "from tasks.formats.kerasfile import files as kerasfile\n\n"),
        ("tasks/formats/__init__.py", '    "onnxruntime": onnx', '    "kerasfile": kerasfile,\n'),
        ("tasks/contract/artifact.py", '"onnxruntime", "litert"', '"kerasfile", '),
        ("tasks/contract/artifact.py", '    "onnxruntime": "onnx"', '    "kerasfile": "keras",\n'),
    ),
    "a stage": (
        ("tasks/halve.py", STAGE),
        ("flows/recipe.py", "from tasks.quantize import", "from tasks.halve import HalveConfig\n"),
        ("flows/recipe.py", "    quantize: QuantizeConfig", "    halve: HalveConfig = HalveConfig()\n"),
        ("flows/making.py", "from tasks.quantize import", "from tasks.halve import halve_student\n"),
        ("flows/making.py", "    quantized = {}", "    pruned = halve_student(pruned, recipe.halve)\n"),
    ),
    "a server": (
        ("tasks/bundles/shelf.py", SERVER),
        ("tasks/bundles/templates/shelf/README.md", "It lies on the shelf.\n"),
        ("tasks/bundles/__init__.py", "BUNDLES: dict", "from tasks.bundles import shelf\n\n"),
        ("tasks/bundles/__init__.py", '    "docker": docker', '    "shelf": shelf,\n'),
        ("tasks/bundles/contents.py", '"tfserving", "triton"', '"shelf", '),
    ),
}
RECIPE = {
    "name": "added",
    "data": {"reader": "line"},
    "teacher": {"model": "line", "fit": {"epochs": 15, "batch_size": 16, "learning_rate": 0.02}},
    "halve": {"times": 1},
    "quantize": {"method": "none"},
    "targets": ["onnxruntime", "kerasfile"],
    "validate": {"latency_rounds": 5, "latency_seconds": 1},
    "budget": {"max_accuracy_drop": 0.5},
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for top in ("flows", "tasks", "deployments"):
        shutil.copytree(ROOT / top, folder / top, ignore=shutil.ignore_patterns("__pycache__"))
    for changes in ADDED.values():
        for file, *change in changes:
            place = folder / file
            if len(change) == 1:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(change[0])
            else:
                line, addition = change
                text = place.read_text()
                assert text.count(line) == 1, (file, line)
                place.write_text(text.replace(line, addition + line))
    return folder


@pytest.mark.parametrize("what", ADDED)
def test_contributing_names_every_file(what):
    (entry,) = re.findall(rf"^- \*\*{what}\*\*: (.*?)(?=^- \*\*|^$)", CONTRIBUTING, re.M | re.S)
    named = re.findall(r"`((?:flows|tasks)/[^`]*)`", entry)
    new, changed = {c[0] for c in ADDED[what] if len(c) == 2}, {c[0] for c in ADDED[what] if len(c) == 3}
    assert changed == {name for name in named if not name.endswith("/")}
    assert all(any(file.startswith(name) for name in named if name.endswith("/")) for file in new)


def test_one_run_uses_them_all(copy, tmp_path):
    (tmp_path / "added.yaml").write_text(yaml.safe_dump(RECIPE))
    ran = _slimline(copy, tmp_path, "run", "added.yaml", "--json")
    result = json.loads(ran.stdout)
    assert {"prepare", "train-teacher", "halve", "convert-student-kerasfile", "register"} <= set(result["seconds"])
    card, profile = _read(copy, tmp_path, "README.md", "profile.json")
    assert "| Keras |" in card
    assert json.loads(profile)["classes"] == ["below", "above"]
    _slimline(copy, tmp_path, "deploy", "models:/added/1", "--to", "shelf", "--output", "shelf")
    assert {"model.onnx", "manifest.json", "README.md", "SHA256SUMS"} == {
        file.name for file in (tmp_path / "shelf").iterdir()
    }


def _slimline(copy: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return _python(copy, folder, "-m", "flows.cli", *arguments)


def _read(copy: Path, folder: Path, *names: str) -> list[str]:
    program = (
        "import json; from tasks.store import tracking; folder = tracking.download('models:/added/1'); "
        f"print(json.dumps([(folder / name).read_text() for name in {names}]))"
    )
    return json.loads(_python(copy, folder, "-c", program).stdout)


def _python(copy: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(copy), "SLIMLINE_HOME": str(folder / "state")}
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done
