"""Edge: the TFLite file, what its inputs and outputs mean, and a short program that asks it."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.outputs import Output, need_labels, write_labels
from tasks.bundles.trial import TrialConfig, TrialResult, opened, timed
from tasks.contract.artifact import Target
from tasks.contract.errors import BundleMismatch, ServerFailed
from tasks.contract.named import Array, by_name, fields, names_of, packed
from tasks.formats import FORMATS
from tasks.formats.tflite.files import FILE
from tasks.formats.tflite.signature import TFLiteTensor, signature
from tasks.processors import PATIENCE, PROCESSORS, emulator_version, missing, python
from tasks.versions.labels import as_json
from tasks.versions.recorded_answers import CLOSE, compare_answers

TARGET: Target = "litert"  # whose answers and times it is compared with
START = "python predict.py"
METADATA = "metadata.json"
ARM = "ARM64"
# Of the largest answer, where as many lie below zero: LiteRT binds integers to the nearest step only.
ONE_STEP = 2 / 255


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `model.tflite` as it was measured, `metadata.json`, `labels.txt`, `predict.py`, its examples."""
    from importlib.metadata import version

    shutil.copyfile(contents.files("edge", "litert") / FILE, folder / FILE)
    contents.copy_reference_files(folder)
    examples, outputs = contents.sample()["examples"], contents.outputs("litert")
    inputs, answers = _in_order(folder / FILE, examples, outputs)
    profile = json.loads((contents.version.folder / "profile.json").read_text())
    taken = by_name(examples, [tensor.called for tensor in inputs])
    given = [{**_as_json(tensor), "unit": output.mean or "the target's own"} for output, tensor in answers]
    metadata = {
        "name": contents.name,
        "version": contents.number,
        "precision": contents.file("edge", "litert").precision,
        **_ends("input", [_taken(tensor, taken[tensor.called], _type_of(tensor, profile)) for tensor in inputs]),
        **_ends("output", given),
        "labels": as_json({output.name: output.labels for output in outputs}),
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_labels(folder, outputs)
    (folder / "requirements.txt").write_text(
        "".join(f"{name}=={version(name)}\n" for name in ("ai-edge-litert", "numpy"))
    )
    render(
        "edge/predict.py.jinja",
        folder / "predict.py",
        examples=_saved(folder, examples),
        inputs=inputs,
        outputs=outputs,
        answered=answers,
        labels=need_labels(outputs),
    )


def _saved(folder: Path, examples: Array) -> str:
    """Put examples into a folder, an array or one of each input by its name; gives the file's name."""
    if not examples.dtype.names:
        np.save(folder / "examples.npy", examples)
        return "examples.npy"
    np.savez(folder / "examples.npz", **fields(examples))  # type: ignore[arg-type]  # its next argument is a switch
    return "examples.npz"


def _in_order(
    file: Path, examples: Array, outputs: Sequence[Output]
) -> tuple[list[TFLiteTensor], list[tuple[Output, TFLiteTensor]]]:
    """The file's inputs as the examples have them, and what it answers with each output; it has no order of its own."""
    inputs, answers = ({tensor.called: tensor for tensor in ends} for ends in signature(file))
    names = examples.dtype.names or tuple(inputs)
    told = [(output, answers[output.name] if output.name else next(iter(answers.values()))) for output in outputs]
    return [inputs[name] for name in names], told


def _ends(kind: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said of the one input or output, or of several in their order."""
    return {kind: told[0]} if len(told) == 1 else {f"{kind}s": told}


def _type_of(tensor: TFLiteTensor, profile: Mapping[str, Any]) -> str:
    """The type of an input's values in the data."""
    return str(profile.get("inputs_like", {}).get(tensor.called, profile)["dtype"])


def _taken(tensor: TFLiteTensor, values: Array, dtype: str) -> dict[str, Any]:
    return {
        **_as_json(tensor),
        "unit": f"raw values as in the data ({dtype}): the model itself subtracts and divides",
        "normalization": {"mean": 0.0, "std": 1.0},
        "range_of_the_examples": [float(values.min()), float(values.max())],
    }


def _as_json(tensor: TFLiteTensor) -> dict[str, Any]:
    quantization = {"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else None
    return {"name": tensor.called, "dtype": tensor.dtype, "shape": tensor.shape, "quantization": quantization}


def trial(folder: Path, about: dict[str, Any], *, config: TrialConfig, **_: Any) -> TrialResult:
    """Run `predict.py` as it lies there, in a process of its own, and time the file in LiteRT.

    Raises:
        BundleMismatch: `metadata.json` does not fit the file.
        ServerFailed: the program ends with an error.
        SmokeTestFailed: the answers are not those that were recorded.

    """
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    for kind, ends in zip(("input", "output"), opened(signature, folder / FILE), strict=True):
        has = sorted((json.loads(json.dumps(_as_json(end))) for end in ends), key=itemgetter("name"))
        described = metadata.get(f"{kind}s") or [metadata[kind]]
        says = sorted(({name: each.get(name) for name in has[0]} for each in described), key=itemgetter("name"))
        if says != has:
            raise BundleMismatch(f"{METADATA} does not fit the model beside it: it says {says}, the file has {has}")
    sample = read_sample(folder)
    recorded = sample["litert"]
    names = names_of(recorded)
    furthest = compare_answers(recorded, _answers(folder, names, "this"), "predict.py")
    if reason := missing(ARM):
        there = f"not run on ARM64: {reason}"
    else:
        close = ONE_STEP if metadata["precision"] == "int8" else CLOSE
        furthest = max(
            furthest, compare_answers(recorded, _answers(folder, names, ARM), "predict.py, run for ARM64,", close)
        )
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


def _answers(folder: Path, outputs: Sequence[str], processor: str) -> Array:
    """What `predict.py` prints on a processor for the examples beside it, `(n, …)` or records of several outputs'.

    Raises:
        ServerFailed: it ends with an error, or takes too long.

    """
    command, environment = python(processor)
    on = "" if processor == "this" else f" on {processor}"
    try:
        done = subprocess.run(  # noqa: S603  our own program, as it lies in the bundle
            [*command, "predict.py"],
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
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    scores = {name: [(answer[name] if name else answer)["scores"] for answer in printed] for name in outputs}
    return packed({name: np.asarray(each, np.float32) for name, each in scores.items()})
