"""Validate: every file against the teacher's float file for the same target, on the same data, in one process.

A target's files are opened together and timed in turn. What is measured is what the runtime does on this machine, now:
the evidence says which machine that is, and what it does not know.
"""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks import metrics
from tasks.artifact import DataArtifact, EvidenceArtifact, ModelArtifact, Precision, Role, Target
from tasks.data import Dataset
from tasks.errors import ConversionError, SlimlineError
from tasks.evidence import FORMAT_OF, Evidence, FileEvidence, Latency, Throughput
from tasks.formats import FORMATS, keras
from tasks.machine import describe_machine, load_average
from tasks.metrics import Floats, Interval
from tasks.progress import listener

Outputs = npt.NDArray[np.float32]
Call = Callable[[Outputs], Outputs]

MOST_CLASSES = 64  # of a confusion matrix that is kept: beyond it the page cannot show it and the JSON grows
FEW_EXAMPLES = 200  # below it an interval for the drop is wider than most budgets


class ValidateConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How evidence is measured."""

    confidence: float = Field(
        0.95,
        ge=0.5,
        le=0.999,
        description="Of every interval. Higher widens them, and makes an accuracy budget harder to keep.",
        json_schema_extra={"position": 0},
    )
    max_examples: int = Field(
        0,
        ge=0,
        description="Test examples to measure on; 0 takes all. More narrows the intervals and takes longer.",
        json_schema_extra={"position": 1},
    )
    latency_rounds: int = Field(
        200,
        ge=5,
        le=100_000,
        description="How often each file is timed. More narrows the speed-up's interval and sharpens p99.",
        json_schema_extra={"position": 2},
    )
    warmup_rounds: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Calls before timing begins. More lets caches, allocators and the processor's clock settle.",
        json_schema_extra={"position": 3},
    )
    latency_seconds: float = Field(
        20,
        gt=0,
        le=3600,
        description="Longest timing of one target's files at one batch size; when it is over, fewer rounds were made. "
        "More lets slow models have all their rounds.",
        json_schema_extra={"position": 4},
    )
    throughput_batch: int = Field(
        64,
        ge=1,
        le=8192,
        description="Examples in a call when throughput is measured. More uses the processor better and takes memory.",
        json_schema_extra={"position": 5},
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads that a runtime may use. More is faster for large models, and noisier beside others.",
        json_schema_extra={"position": 6},
    )


@dataclass(frozen=True)
class Measured:
    """A file to measure.

    folder: what the target's format has written. keras: the folder of the Keras model that it was made from.
    sha256, keras_sha256: their digests. shipped: whether it is part of the version.
    """

    role: Role
    target: Target
    precision: Precision
    folder: Path
    keras: Path
    sha256: str
    keras_sha256: str
    shipped: bool

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.role} {self.target} {self.precision}"


@dataclass(frozen=True)
class Reference:
    """A Keras model's answers on the test split `(n, …)`, and its size."""

    outputs: Outputs
    parameters: int
    nonzeros: int


def validate(files: Sequence[Measured], data: Dataset, config: ValidateConfig, *, seed: int) -> Evidence:
    """Measure files on the test split.

    Args:
        files: by target, each with the teacher's float file among them.
        data: whose test split is measured on.
        config: how.
        seed: of the bootstrap.

    Raises:
        ConversionError: a file answers with something other than one finite output for each example.
        SlimlineError: a Keras model does.

    """
    load_before = load_average()
    x, y = data.arrays("test", config.max_examples)
    references = {
        file.keras: _reference(file, x, data.output_shape, config.throughput_batch)
        for file in {file.keras: file for file in files}.values()
    }
    measured: list[FileEvidence] = []
    for target in dict.fromkeys(file.target for file in files):
        measured += _measure_target([file for file in files if file.target == target], data, x, y, references, config, seed)
    return Evidence(
        problem=data.config.problem,
        score=metrics.SCORE_NAMES[data.config.problem],
        data=data.digest,
        examples=len(x),
        examples_held=data.counts["test"],
        duplicates=data.duplicates,
        classes=data.classes,
        confidence=config.confidence,
        seed=seed,
        threads=config.threads,
        machine=describe_machine(load_before),
        methods=_methods(data, config),
        limits=_limits(measured, len(x), data, config),
        files=tuple(measured),
    )


def _measure_target(
    files: Sequence[Measured],
    data: Dataset,
    x: Outputs,
    y: npt.NDArray[np.generic],
    references: dict[Path, Reference],
    config: ValidateConfig,
    seed: int,
) -> list[FileEvidence]:
    """One target's files, all open at once: answers first, then times in turn."""
    first = next(file for file in files if file.role == "teacher")
    order = [first, *(file for file in files if file is not first)]
    problem = data.config.problem
    calls: dict[Measured, Call] = {}
    found: dict[Measured, Outputs] = {}
    scores: dict[Measured, Floats] = {}
    for file in order:
        listener().note("validate", f"measuring {file.title}")
        calls[file] = FORMATS[file.target].load(file.folder, threads=config.threads)
        found[file] = _answers(calls[file], x, data.output_shape, config.throughput_batch, file.title)
        scores[file] = metrics.scores(problem, y, found[file], data.variance)
    named = {file.sha256 + file.role: call for file, call in calls.items()}
    listener().note("validate", f"timing {first.target}: {len(files)} files in turn")
    single = metrics.time_in_turn(named, x[:1], config.latency_rounds, config.warmup_rounds, config.latency_seconds)
    batch = np.resize(x, (config.throughput_batch, *x.shape[1:]))  # repeats the examples when there are too few
    rounds = max(metrics.FEWEST_ROUNDS, config.latency_rounds // 10)
    batched = metrics.time_in_turn(named, batch, rounds, 3, config.latency_seconds)
    measured = []
    for file in order:
        times, many = single[file.sha256 + file.role], batched[file.sha256 + file.role]
        reference = references[file.keras]
        audit = FORMATS[file.target].audit(file.folder, x[:1])
        lost, gained = scores[first] > scores[file], scores[first] < scores[file]
        p50, p95, p99 = (float(value) for value in np.quantile(times, [0.5, 0.95, 0.99]))
        confusion: tuple[tuple[int, ...], ...] = ()
        if problem == "classification" and len(data.classes) <= MOST_CLASSES:
            matrix = metrics.confusion_matrix(y, found[file], len(data.classes))
            confusion = tuple(tuple(int(count) for count in row) for row in matrix)
        measured.append(
            FileEvidence(
                role=file.role,
                target=file.target,
                format=FORMAT_OF[file.target],
                precision=file.precision,
                sha256=file.sha256,
                keras_sha256=file.keras_sha256,
                shipped=file.shipped,
                accuracy=metrics.interval(scores[file], problem, config.confidence, seed),
                drop=Interval(low=0, estimate=0, high=0)
                if file is first
                else metrics.paired_interval(scores[first], scores[file], problem, config.confidence, seed),
                lost=int(lost.sum()) if problem == "classification" else 0,
                gained=int(gained.sum()) if problem == "classification" else 0,
                further=metrics.further_figures(problem, y, found[file]),
                confusion=confusion,
                parity=metrics.parity(problem, reference.outputs, found[file]),
                **_sizes(file),
                parameters=reference.parameters,
                nonzeros=reference.nonzeros,
                macs=audit.macs,
                latency=Latency(p50=p50, p95=p95, p99=p99, rounds=len(times)),
                speedup=Interval(low=1, estimate=1, high=1)
                if file is first
                else metrics.ratio_interval(single[first.sha256 + first.role], times, config.confidence, seed),
                throughput=Throughput(
                    examples_per_second=len(batch) / float(np.median(many)), batch=len(batch), rounds=len(many)
                ),
                integer_share=audit.integer_share,
                audit=audit,
            )
        )
    return measured


def _answers(call: Call, x: Outputs, output_shape: tuple[int, ...], batch: int, title: str) -> Outputs:
    """Answers for all examples `(n, *output_shape)`.

    Raises:
        ConversionError: they have another shape, or are not all finite.

    """
    parts = [np.asarray(call(x[start : start + batch])) for start in range(0, len(x), batch)]
    outputs = np.concatenate(parts)
    if outputs.shape != (len(x), *output_shape):
        raise ConversionError(
            f"{title}: {len(x)} examples are answered in the shape {outputs.shape}, not {(len(x), *output_shape)}: "
            "the model that it was made from has another output than the data"
        )
    broken = int((~np.isfinite(outputs)).reshape(len(x), -1).any(axis=1).sum())
    if broken:
        raise ConversionError(
            f"{title}: {broken} of {len(x)} test examples are answered with NaN or infinity: "
            "float16 and int8 overflow when values are large, so scale the inputs (data.scaling) or take another quantize.precision"
        )
    return outputs


def _reference(file: Measured, x: Outputs, output_shape: tuple[int, ...], batch: int) -> Reference:
    """The answers of the Keras model that a file was made from."""
    model = keras.load(file.keras)
    outputs = np.asarray(model.predict(x, batch_size=batch, verbose=0), dtype=np.float32)
    if outputs.shape != (len(x), *output_shape) or not np.isfinite(outputs).all():
        raise SlimlineError(
            f"the {file.role}'s Keras model answers the test examples in the shape {outputs.shape} (expected "
            f"{(len(x), *output_shape)}) or with NaN or infinity: train it with a smaller learning_rate, or look at the data"
        )
    # Ranges and counters of quantization-aware training are bookkeeping, not the model's parameters.
    ranges = {
        id(weight)
        for module in model.submodules
        if type(module).__name__ == "QuantizeLayer"
        for weight in module.weights
    }
    values = [
        weight.numpy() for weight in model.weights if id(weight) not in ranges and "optimizer_step" not in weight.name
    ]
    return Reference(outputs, sum(int(value.size) for value in values), sum(int(np.count_nonzero(v)) for v in values))


def _sizes(file: Measured) -> dict[str, int]:
    """Bytes of the model's files on disk, and each compressed with gzip as a download would be."""
    single = FORMATS[file.target].FILE
    parts = [file.folder / single] if single else [part for part in file.folder.rglob("*") if part.is_file()]
    contents = [part.read_bytes() for part in parts]
    packed = [gzip.compress(content, compresslevel=6, mtime=0) for content in contents]
    return {"size_bytes": sum(map(len, contents)), "gzip_bytes": sum(map(len, packed))}
