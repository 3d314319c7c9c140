"""Edge: the TFLite file, what its inputs and outputs mean, and a short program that asks it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.trial import TrialConfig, TrialResult, opened, timed
from tasks.contract.artifact import Target
from tasks.contract.errors import BundleMismatch, ServerFailed
from tasks.formats import FORMATS
from tasks.formats.tflite.files import FILE
from tasks.formats.tflite.signature import TFLiteTensor, tensors
from tasks.processors import PATIENCE, PROCESSORS, emulator_version, missing, python
from tasks.versions.recorded_answers import CLOSE, compare_answers

TARGET: Target = "litert"  # whose answers and times it is compared with
START = "python predict.py examples.npy"
METADATA = "metadata.json"
ARM = "ARM64"
# Of the largest answer, where as many lie below zero: LiteRT binds integers to the nearest step only.
ONE_STEP = 2 / 255


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `model.tflite` as it was measured, `metadata.json`, `labels.txt`, `predict.py`, `examples.npy`."""
    from importlib.metadata import version

    shutil.copyfile(contents.files("edge", "litert") / FILE, folder / FILE)
    contents.copy_reference_files(folder)
    examples = contents.sample()["examples"]
    np.save(folder / "examples.npy", examples)
    model_input, model_output = tensors(folder / FILE)
    profile = json.loads((contents.version.folder / "profile.json").read_text())
    metadata = {
        "name": contents.name,
        "version": contents.number,
        "precision": contents.file("edge", "litert").precision,
        "input": {
            **_as_json(model_input),
            "unit": f"raw values as in the data ({profile['dtype']}): the model itself subtracts and divides",
            "normalization": {"mean": 0.0, "std": 1.0},
            "range_of_the_examples": [float(examples.min()), float(examples.max())],
        },
        "output": {
            **_as_json(model_output),
            "unit": contents.labels_mean("litert") if contents.labels else "the target's own",
        },
        "labels": contents.labels,
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if contents.labels:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in contents.labels), encoding="utf-8")
    (folder / "requirements.txt").write_text(
        "".join(f"{name}=={version(name)}\n" for name in ("ai-edge-litert", "numpy"))
    )
    render(
        "edge/predict.py.jinja",
        folder / "predict.py",
        model_input=model_input,
        model_output=model_output,
        said=contents.said("litert"),
    )


def _as_json(tensor: TFLiteTensor) -> dict[str, Any]:
    quantization = {"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else None
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape, "quantization": quantization}


def trial(folder: Path, about: dict[str, Any], *, config: TrialConfig, **_: Any) -> TrialResult:
    """Run `predict.py` as it lies there, in a process of its own, and time the file in LiteRT.

    Raises:
        BundleMismatch: `metadata.json` does not fit the file.
        ServerFailed: the program ends with an error.
        SmokeTestFailed: the answers are not those that were recorded.

    """
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    for described, actual in zip((metadata["input"], metadata["output"]), opened(tensors, folder / FILE), strict=True):
        has = json.loads(json.dumps(_as_json(actual)))
        says = {name: described.get(name) for name in has}
        if says != has:
            raise BundleMismatch(f"{METADATA} does not fit the model beside it: it says {says}, the file has {has}")
    sample = read_sample(folder)
    recorded = sample["litert"]
    furthest = compare_answers(recorded, _answers(folder, "this"), "predict.py")
    if reason := missing(ARM):
        there = f"not run on ARM64: {reason}"
    else:
        close = ONE_STEP if metadata["precision"] == "int8" else CLOSE
        furthest = max(furthest, compare_answers(recorded, _answers(folder, ARM), "predict.py, run for ARM64,", close))
        there = f"run so on ARM64 too: {PROCESSORS[ARM].model}, emulated by {emulator_version(ARM)}"
    call = FORMATS["litert"].load(folder)
    return TrialResult(
        server="LiteRT",
        server_run=True,
        ran=f"predict.py in a process of its own ({there}); timed in process, here and not on a small device",
        examples=len(recorded),
        largest_difference=furthest,
        latency_p50_ms={"LiteRT": timed(lambda: call(sample["examples"][:1]), config.requests)},
        measured_p50_ms=about["measured_p50_ms"],
    )


def _answers(folder: Path, processor: str) -> np.ndarray:
    """What `predict.py` prints on a processor for the examples beside it, `(n, …)`.

    Raises:
        ServerFailed: it ends with an error, or takes too long.

    """
    command, environment = python(processor)
    on = "" if processor == "this" else f" on {processor}"
    try:
        done = subprocess.run(  # noqa: S603  our own program, as it lies in the bundle
            [*command, "predict.py", "examples.npy"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"predict.py did not answer{on} within {PATIENCE} s") from error
    if done.returncode:
        errors = done.stderr.strip().splitlines() or ["nothing"]
        raise ServerFailed(f"predict.py ended with exit code {done.returncode}{on}. It errors: {errors[-1]}")
    return np.asarray([json.loads(line)["scores"] for line in done.stdout.splitlines()], np.float32)
