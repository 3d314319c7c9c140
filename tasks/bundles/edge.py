"""Edge: the TFLite file, what its inputs and outputs mean, and a short program that asks it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tasks.artifact import Target
from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.trial import PATIENCE, Trial, TrialConfig, opened, timed
from tasks.errors import BundleMismatch, ServerFailed
from tasks.formats import FORMATS
from tasks.formats.tflite import FILE
from tasks.formats.tflite_signature import Tensor, tensors
from tasks.recorded import held_against

TARGET: Target = "litert"  # whose answers and times it is held to
START = "python predict.py examples.npy"
METADATA = "metadata.json"


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `model.tflite` as it was measured, `metadata.json`, `labels.txt`, `predict.py`, `examples.npy`."""
    from importlib.metadata import version

    shutil.copyfile(contents.files("edge", "litert") / FILE, folder / FILE)
    contents.keep_what_it_is_held_to(folder)
    examples = contents.sample()["examples"]
    np.save(folder / "examples.npy", examples)
    given, wanted = tensors(folder / FILE)
    profile = json.loads((contents.version.folder / "profile.json").read_text())
    metadata = {
        "name": contents.name,
        "version": contents.number,
        "precision": contents.file("edge", "litert").precision,
        "input": {
            **_as_json(given),
            "unit": f"raw values as in the data ({profile['dtype']}): the model itself subtracts and divides",
            "normalization": {"mean": 0.0, "std": 1.0},
            "range_of_the_examples": [float(examples.min()), float(examples.max())],
        },
        "output": {**_as_json(wanted), "unit": "probability" if contents.labels else "the target's own"},
        "labels": contents.labels,
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if contents.labels:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in contents.labels), encoding="utf-8")
    (folder / "requirements.txt").write_text(
        "".join(f"{name}=={version(name)}\n" for name in ("ai-edge-litert", "numpy"))
    )
    render("edge/predict.py.jinja", folder / "predict.py", given=given, wanted=wanted, labels=contents.labels)


def _as_json(tensor: Tensor) -> dict[str, Any]:
    quantization = {"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else None
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape, "quantization": quantization}


def trial(folder: Path, about: dict[str, Any], *, config: TrialConfig, **_: Any) -> Trial:
    """Run `predict.py` as it lies there, in a process of its own, and time the file in LiteRT.

    Raises:
        BundleMismatch: `metadata.json` does not fit the file.
        ServerFailed: the program ends with an error.
        SmokeTestFailed: the answers are not those that were recorded.

    """
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    for told, real in zip((metadata["input"], metadata["output"]), opened(tensors, folder / FILE), strict=True):
        has = json.loads(json.dumps(_as_json(real)))
        says = {name: told.get(name) for name in has}
        if says != has:
            raise BundleMismatch(f"{METADATA} does not fit the model beside it: it says {says}, the file has {has}")
    sample = read_sample(folder)
    done = subprocess.run(
        [sys.executable, "predict.py", "examples.npy"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise ServerFailed(f"predict.py ended with exit code {done.returncode}. It said: {said[-1]}")
    answers = np.asarray([json.loads(line)["scores"] for line in done.stdout.splitlines()], np.float32)
    furthest = held_against(sample["litert"], answers, "predict.py")
    call = FORMATS["litert"].load(folder)
    return Trial(
        server="LiteRT",
        server_run=True,
        ran="predict.py in a process of its own; timed in process, on this machine and not on a small device",
        examples=len(answers),
        largest_difference=furthest,
        latency_p50_ms={"LiteRT": timed(lambda: call(sample["examples"][:1]), config.requests)},
        measured_p50_ms=about["measured_p50_ms"],
    )
