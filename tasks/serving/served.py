"""A version that can be served: its files are those that were measured, and it answers as it did then."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.contract.artifact import Target
from tasks.contract.errors import VersionError
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.lookups import unknown_ids
from tasks.formats.onnx.saturation import note_here
from tasks.formats.onnx.signature import signature
from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.versions.manifest import read_manifest
from tasks.versions.recorded_answers import CLOSE, compare_answers
from tasks.versions.version import SAMPLE, OpenVersion

log = logging.getLogger("slimline.serving")
Float32 = npt.NDArray[np.float32]
TARGET: Target = "onnxruntime"
TRIES = 30  # calls that are timed to decide how requests are answered
SLOW = 0.002  # seconds from which a call is not made between requests but beside them
TOGETHER = 8  # examples that are tried in one call


@dataclass(frozen=True, eq=False)
class Served:
    """An opened version.

    call: float32 `(n, …)` to float32 `(n, …)`. seconds: of a call with one example, the median.
    batch: whether examples of several requests may share a call: it is faster, and answers stay what they are.
    unknown: says which id in examples the model has no row for, or nothing; none where it looks nothing up.
    """

    name: str
    version: str
    input: TensorSpec
    output: TensorSpec
    call: Callable[[Float32], Float32]
    seconds: float
    batch: bool
    unknown: Callable[[Float32], str] | None = None


def open_folder(folder: Path, threads: int) -> Served:
    """A folder that was laid out for a server: `model.onnx`, what its answers are compared with, and a manifest.

    Raises:
        BundleDamaged: files are not those that were put there.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    about = read_manifest(folder)
    return _opened(folder, str(about["name"]), str(about["version"]), threads)


def open_version_of(version: OpenVersion, name: str, number: int, threads: int) -> Served:
    """A version from the registry, whose files were compared with what was registered.

    Raises:
        VersionError: it has no file for ONNX Runtime.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    if lacks := version.lacks(TARGET):
        raise VersionError("version", version.uri, f"{lacks}, or serve it with `mlflow models serve -m {version.uri}`")
    if sentence := version.unsealed():
        log.warning(sentence)
    return _opened(version.folder, name, str(number), threads)


def _opened(folder: Path, name: str, version: str, threads: int) -> Served:
    (model_input,), (model_output,) = signature(folder / onnx.FILE)
    if sentence := note_here(f"the file of {name} version {version}", onnx.saturating(folder)):
        log.warning(sentence)
    call = onnx.load(folder, threads)
    with np.load(folder / SAMPLE) as sample:
        examples, recorded = sample["examples"], sample[TARGET]
    answers = call(examples)
    compare_answers(recorded, answers, f"{name} version {version}")
    seconds = _timed(call, examples[:1])
    singly = np.concatenate([call(example[None]) for example in examples])
    together = _timed(call, np.resize(examples, (TOGETHER, *examples.shape[1:])))
    return Served(
        name=name,
        version=version,
        input=model_input,
        output=model_output,
        call=call,
        seconds=seconds,
        # with ranges that are computed anew for each call, an example's answer depends on its company
        batch=together < 0.8 * TOGETHER * seconds
        and bool(np.abs(singly - answers).max() <= CLOSE * np.abs(recorded).max()),
        unknown=unknown_ids(folder / onnx.FILE),
    )


def _timed(call: Callable[[Float32], Float32], examples: Float32) -> float:
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call(examples)
        times.append(time.perf_counter() - began)
    return float(np.median(times))
