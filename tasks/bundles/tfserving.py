"""TensorFlow Serving: a versioned SavedModel, and the configuration files that its command line names.

After TensorFlow Serving's guides "Configuration" and "SavedModel Warmup". The files are text protos of
model_server_config.proto, session_bundle_config.proto and monitoring_config.proto.
"""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.contents import Contents, copy_tree, read_sample, render
from tasks.bundles.trial import TrialResult, opened
from tasks.contract.artifact import Target
from tasks.contract.errors import BundleMismatch
from tasks.contract.named import fields, packed
from tasks.formats import FORMATS
from tasks.formats.savedmodel.files import SIGNATURE
from tasks.formats.savedmodel.warmup import FILE as WARMUP
from tasks.formats.savedmodel.warmup import read_warmup
from tasks.versions.recorded_answers import compare_answers

TARGET: Target = "savedmodel"  # whose answers and times it is compared with
START = "docker compose up --wait"
IMAGE = "tensorflow/serving"  # releases bear TensorFlow's numbers, and one reads what its own number has written


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `models/`, `config/`, `compose.yaml`."""
    copy_tree(contents.files("tfserving", "savedmodel"), folder / "models" / contents.name / str(contents.number))
    values: dict[str, Any] = {
        "name": contents.name,
        "number": contents.number,
        "config": contents.config,
        "image": f"{IMAGE}:{version('tensorflow')}",
    }
    for name in ("models.config", "batching.config", "monitoring.config"):
        render(f"tfserving/{name}", folder / "config" / name, **values)
    render("tfserving/compose.yaml", folder / "compose.yaml", **values)
    contents.copy_reference_files(folder)


def trial(folder: Path, about: dict[str, Any], **_: Any) -> TrialResult:
    """Have the SavedModel answer its own warm-up record; TensorFlow Serving's binary is not run.

    Raises:
        BundleMismatch: `models.config` does not lead to the SavedModel, or its warm-up record does not fit it.
        SmokeTestFailed: the answers are not those that were recorded.

    """
    text = (folder / "config" / "models.config").read_text()
    config = {key: (re.findall(rf"\b{key}: \"?([^\"\s}}]+)", text) or ["nothing"])[0] for key in ("name", "base_path")}
    config["versions"] = (re.findall(r"versions: (\d+)", text) or ["nothing"])[0]
    # the compose service mounts `models` at /models
    model = folder / config["base_path"].lstrip("/") / config["versions"]
    if config["name"] != about["name"] or not (model / "saved_model.pb").is_file():
        raise BundleMismatch(
            f"config/models.config does not fit the bundle: it serves {config['name']} version {config['versions']} "
            f"from {config['base_path']}, and the model is {about['name']}, models/{about['name']}/{about['version']}: "
            "deploy it again, or put that into the file"
        )
    call = opened(FORMATS["savedmodel"].load, model)
    signature, inputs = read_warmup(model)
    if signature != SIGNATURE:
        raise BundleMismatch(f"{WARMUP} asks for the signature {signature}, and the model has {SIGNATURE}")
    answers = opened(call, packed(inputs))
    if not all(np.isfinite(each).all() for each in fields(answers).values()):
        raise BundleMismatch(f"{WARMUP}: the model answers what it holds with NaN or infinity")
    sample = read_sample(folder)
    furthest = compare_answers(sample["savedmodel"], call(sample["examples"]), "the SavedModel, opened by TensorFlow,")
    return TrialResult(
        server="TensorFlow Serving",
        server_run=False,
        ran="TensorFlow, which opened the SavedModel and answered its warm-up record",
        examples=len(sample["examples"]),
        largest_difference=furthest,
    )
