"""A version that can be served: its files are those that were measured, and it answers as it did then."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tasks.contract.artifact import Target
from tasks.contract.errors import VersionError
from tasks.contract.named import Array, fields
from tasks.contract.problem import Problem
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.lookups import unknown_ids
from tasks.formats.onnx.saturation import note_here
from tasks.formats.onnx.signature import signature
from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.versions.labels import read_labels
from tasks.versions.manifest import read_manifest
from tasks.versions.recorded_answers import CLOSE, compare_answers
from tasks.versions.version import SAMPLE, OpenVersion

log = logging.getLogger("slimline.serving")
TARGET: Target = "onnxruntime"
TRIES = 30  # calls that are timed to decide how requests are answered
SLOW = 0.002  # seconds from which a call is not made between requests but beside them
TOGETHER = 8  # examples that are tried in one call


@dataclass(frozen=True, eq=False)
class Served:
    """An opened version.

    call: float32 `(n, …)` to float32 `(n, …)`, and records `(n,)` of these where inputs or outputs are several.
    seconds: of a call with one example, the median.
    batch: whether examples of several requests may share a call: it is faster, and answers stay what they are.
    unknown: says which id in examples the model has no row for, or nothing; none where it looks nothing up.
    labels: of each output, class names in the order of its answers; empty unless it tells classes apart.
    problems: of each output, what it answers; empty of a folder, which has no registry to tell.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[Array], Array]
    seconds: float
    batch: bool
    unknown: Callable[[Array], str] | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)


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
    problems = {head: evidence.problem for head, evidence in version.evidence.by_head.items()}
    return replace(_opened(version.folder, name, str(number), threads), problems=problems)


def _opened(folder: Path, name: str, version: str, threads: int) -> Served:
    inputs, outputs = signature(folder / onnx.FILE)
    if sentence := note_here(f"the file of {name} version {version}", onnx.saturating(folder)):
        log.warning(sentence)
    call = onnx.load(folder, threads)
    with np.load(folder / SAMPLE) as sample:
        examples, recorded = sample["examples"], sample[TARGET]
    answers = call(examples)
    compare_answers(recorded, answers, f"{name} version {version}")
    seconds = _timed(call, examples[:1])
    singly = np.concatenate([call(examples[row : row + 1]) for row in range(len(examples))])
    together = _timed(call, np.resize(examples, (TOGETHER, *examples.shape[1:])))
    return Served(
        name=name,
        version=version,
        inputs=inputs,
        outputs=outputs,
        call=call,
        seconds=seconds,
        # with ranges that are computed anew for each call, an example's answer depends on its company
        batch=together < 0.8 * TOGETHER * seconds and _are_alike(singly, answers, recorded),
        unknown=unknown_ids(folder / onnx.FILE),
        labels=read_labels(folder),
    )


def _are_alike(singly: Array, together: Array, recorded: Array) -> bool:
    """Whether an example is answered by every output as it is alone."""
    answers, largest = fields(together), fields(recorded)
    return all(
        bool(np.abs(alone - answers[name]).max() <= CLOSE * np.abs(largest[name]).max())
        for name, alone in fields(singly).items()
    )


def _timed(call: Callable[[Array], Array], examples: Array) -> float:
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call(examples)
        times.append(time.perf_counter() - began)
    return float(np.median(times))
