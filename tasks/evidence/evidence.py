"""What validate measured, as it is kept: one JSON, with all that it takes to judge it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from tasks.contract.artifact import Format, Precision, Role, Target, default_target
from tasks.contract.errors import StoreError
from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.evidence.searched import Searched
from tasks.formats.audit import Audit
from tasks.measuring.arrays import Figure
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine
from tasks.measuring.parts import ClassScore, SliceScore
from tasks.measuring.scores import Parity
from tasks.measuring.target_scores import TargetScore
from tasks.measuring.timing import Latency, Throughput

FILE = "evidence.json"
CHOICE = "choice.json"
SCHEMA_VERSION = 1  # goes up when a field changes its meaning or its name


class Scored(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right a file's answers are: of a model's one output, or of one of several."""

    accuracy: Interval = Field(description="The metric on the test split.")
    keras_accuracy: Interval | None = Field(
        None, description="That of the Keras model that it was made from; none in evidence of older versions."
    )
    drop: Interval = Field(
        description="By how much the metric is worse than the reference's, in pairs; `high` is the bad end."
    )
    lost: int = Field(0, ge=0, description="Examples of which the teacher has more right; of classes and labels only.")
    gained: int = Field(0, ge=0, description="Examples of which this has more right than the teacher.")
    targets: dict[str, TargetScore] = Field(
        default_factory=dict,
        description="Of several targets, each one's own score and drop; `drop` is the worst's.",
    )
    classes: dict[str, ClassScore] = Field(
        default_factory=dict, description="Each class's or label's own recall and precision, by its name."
    )
    slices: dict[str, SliceScore] = Field(
        default_factory=dict, description="With `data.slice`: each slice's own score and drop, by its name."
    )
    further: dict[str, Figure] = Field(description="Figures that a mean score hides; see `scores.further_figures`.")
    confusion: tuple[tuple[int, ...], ...] = Field(
        (), description="Row: label, column: answer. Empty when there are too many classes, or none."
    )
    parity: Parity = Field(description="How far its outputs are from its Keras model's.")


class FileEvidence(Scored, frozen=True, extra="forbid", allow_inf_nan=False):
    """What was measured of one file. Of several outputs what is said of answers is the first one's."""

    role: Role
    target: Target
    format: Format
    precision: Precision
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The file's digest, as its artifact has it.")
    keras_sha256: str = Field(pattern="^([0-9a-f]{64})?$", description="The Keras model's that it was made from.")
    shipped: bool = Field(description="Whether it is part of the version; the others are there to compare with.")
    heads: dict[str, Scored] = Field(
        default_factory=dict, description="Of several outputs, what is said of each one's answers, by its name."
    )
    size_bytes: int = Field(ge=1, description="On disk.")
    gzip_bytes: int = Field(ge=1, description="Each file compressed with gzip, level 6.")
    parameters: int = Field(ge=0, description="Of the Keras model.")
    nonzeros: int = Field(ge=0, description="Parameters that are not zero.")
    macs: int = Field(ge=0, description="Multiply-accumulates for one example, of the graph that the runtime executes.")
    ran: bool = Field(
        True, description="Whether the target's own runtime was here; if not, times are those of ONNX Runtime."
    )
    latency: Latency
    speedup: Interval = Field(
        description="The teacher's median latency for the same target over this one's; `low` is the bad end."
    )
    throughput: Throughput
    integer_share: Figure = Field(ge=0, le=1, description="Share of multiply-accumulates in integer kernels.")
    audit: Audit = Field(description="The kernels that really run, layer by layer.")

    @property
    def scores(self) -> dict[str, Interval]:
        """Those that a later measurement is compared with beside the first output's: of each target and output."""
        own = {name: each.score for name, each in self.targets.items()}
        if not self.heads:
            return own
        return {name: head.accuracy for name, head in self.heads.items()} | {
            f"{name}/{target}": each.score for name, head in self.heads.items() for target, each in head.targets.items()
        }


class Reference(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What drops are counted from: the teacher, answered by Keras itself and by no file."""

    keras: str = Field(description="Which Keras answered, such as `Keras 3.12.0`.")
    brought: bool = Field(description="Whether the model answered as it was brought, untouched.")
    accuracy: Interval = Field(description="The metric on the test split.")
    guessing: Figure = Field(description="That of who always says the same: the commonest class, or the mean.")
    targets: dict[str, Interval] = Field(default_factory=dict, description="Of several targets, each one's own.")


class HeadEvidence(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One of several outputs: what is said of it beside its answers."""

    name: str = Field(description="The output's.")
    problem: Problem
    score: str = Field(description="The metric that decides, by its name.")
    lower_is_better: bool = Field(False, description="Whether less of it is better.")
    classes: tuple[str, ...] = Field((), description="Class names in label order.")
    reference: Reference | None = Field(None, description="What its drops are counted from.")


class Tried(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One way to quantize, as it was measured for one target on the validation split."""

    route: str = Field(description="The way: student or teacher is the float model, static is post-training to int8.")
    target: Target
    precision: Precision
    accuracy: Interval = Field(description="The mean score on the validation split.")
    drop: Interval = Field(description="By how much that lies below the teacher's in Keras, in pairs.")
    drops: dict[str, Interval] = Field(
        default_factory=dict, description="Of several outputs, each one's, by its name; `drop` is the first one's."
    )
    size_bytes: int = Field(ge=1)
    latency_p50: Figure = Field(gt=0, description="Seconds, at batch 1.")
    speedup: Interval = Field(description="The teacher's median latency over this one's.")
    integer_share: Figure = Field(ge=0, le=1)
    everywhere: bool | None = Field(None, description="As `Audit.everywhere`.")
    inside: bool = Field(
        description="Whether it keeps the budget: accuracy and the same integers on every processor; of the first "
        "target also size, latency and integer share."
    )
    misses: dict[str, Figure] = Field(
        default_factory=dict,
        description="Of each limit that it does not keep, by its name, which share is missing: 0.5 is half of what is "
        "asked, or twice what is allowed.",
    )
    ran: bool = Field(True, description="As in `FileEvidence`.")
    chosen: bool = Field(description="Whether it goes on.")

    @property
    def nearest(self) -> str:
        """What is said of it where none is inside."""
        return f"{self.route} is the nearest, and misses {missed(self.misses)}"


def missed(misses: Mapping[str, float]) -> str:
    """Limits that are not kept, in words, the one that is missed by most first."""
    return ", ".join(f"budget.{name} by {misses[name]:.0%}" for name in sorted(misses, key=lambda name: -misses[name]))


class Evidence(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Everything measured on one test split, on one machine, in one process."""

    schema_version: Literal[1] = 1
    name: str = Field("", description="Of which output this is, where it is of one of several; see `by_head`.")
    problem: Problem
    score: str = Field(description="The metric that decides, by its name: accuracy, r2, or another.")
    lower_is_better: bool = Field(False, description="Whether less of it is better, as of an error.")
    data: str = Field(pattern="^[0-9a-f]{64}$", description="The digest of the data.")
    examples: int = Field(ge=1, description="Test examples that were measured on.")
    examples_held: int = Field(ge=1, description="Test examples that there are.")
    duplicates: int = Field(ge=0, description="Examples left out because their content stands in another split.")
    classes: tuple[str, ...] = Field(description="Class names in label order; empty unless classification.")
    confidence: Figure = Field(gt=0, lt=1, description="Of every interval, one at a time, with both ends.")
    seed: int = Field(ge=0, description="Of every bootstrap.")
    threads: int = Field(ge=1, description="That runtimes were allowed.")
    machine: Machine
    methods: dict[str, str] = Field(description="How each kind of figure was made.")
    limits: tuple[str, ...] = Field(description="What this evidence does not say.")
    tried: tuple[Tried, ...] = Field(
        (), description="With `quantize.method: auto`: every way that was measured before one was chosen, by target."
    )
    searched: Searched | None = Field(None, description="The search that the recipe was found by, if it was.")
    reference: Reference | None = Field(
        None, description="What drops are counted from; none in older evidence, where it is the teacher's float file."
    )
    heads: tuple[HeadEvidence, ...] = Field(
        (), description="Of a model with several outputs, each one; what is said of one is said of the first."
    )
    files: tuple[FileEvidence, ...] = Field(
        min_length=1,
        description="By target in the recipe's order, and within one by role: teacher, student, compressed.",
    )

    @property
    def by_head(self) -> "dict[str, Evidence]":
        """What is said of each output by itself, by its name, as if it were the only one; that one has no name."""
        if not self.heads:
            return {ONE: self}
        return {
            head.name: self.model_copy(
                update={
                    **dict(head),
                    "name": head.name,
                    "heads": (),
                    "files": tuple(
                        file.model_copy(update={**dict(file.heads[head.name]), "heads": {}}) for file in self.files
                    ),
                }
            )
            for head in self.heads
        }

    @property
    def in_points(self) -> bool:
        """Whether people say the metric in percent and its differences in points: a share of right answers."""
        return self.score.endswith("accuracy") or self.score.startswith("top_")

    @property
    def title(self) -> str:
        """What people call the metric: with the output's name where there are others."""
        return f"{self.name}'s {self.score}" if self.name else self.score

    @property
    def side(self) -> dict[bool, str]:
        """On which side of another a metric lies that is worse (True), or better."""
        return {True: "above", False: "below"} if self.lower_is_better else {True: "below", False: "above"}

    def teacher(self, target: Target) -> FileEvidence:
        """The teacher's float file for a target: sizes and times of that target are compared with its own.

        Scores are not: drops are counted from `reference`, and outputs compared with the Keras model's of each file.
        """
        return next(file for file in self.files if file.role == "teacher" and file.target == target)

    def same(self, file: FileEvidence) -> FileEvidence:
        """What is said here of a file of the whole evidence: see `by_head`."""
        return next(each for each in self.files if (each.role, each.target) == (file.role, file.target))

    def chain(self, file: FileEvidence) -> list[tuple[str, Interval]]:
        """The scores on the way from the model as it was brought to a file, each step by what it is called."""
        if self.reference is None:
            return []
        teacher, brought = self.teacher(file.target), self.reference.brought
        own = file.role != "teacher"
        steps = [
            (f"as it was brought, in {self.reference.keras}", self.reference.accuracy if brought else None),
            ("the teacher in Keras 2", teacher.keras_accuracy),
            (f"its float file for {file.target}", teacher.accuracy),
            (f"the {file.role} model in Keras 2", file.keras_accuracy if own else None),
            (f"its {file.precision} file", file.accuracy if own else None),
        ]
        return [(name, score) for name, score in steps if score is not None]

    def served(self) -> FileEvidence:
        """The file that ships and that MLflow asks by default: whose figures stand for the version."""
        shipped = {file.target: file for file in self.files if file.shipped}
        return shipped[default_target(shipped)]

    def targets(self) -> Iterator[tuple[Target, list[FileEvidence]]]:
        """Each target in order, with its files."""
        for target in dict.fromkeys(file.target for file in self.files):
            yield target, [file for file in self.files if file.target == target]


def figures(evidence: Evidence, file: FileEvidence) -> dict[str, float]:
    """A file's figures by name, for metrics that are searched and plotted.

    Of several outputs the first one's figures have their names alone, and each one's stand behind its name and a slash.
    """
    scored: dict[str, float] = {}
    for head in evidence.heads:
        own = _scored(file.heads[head.name], head.score)
        scored |= {f"{head.name}/{name}": value for name, value in own.items()}
    return {**_measured(file), **_scored(file, evidence.score), **scored}


def _scored(file: Scored, score: str) -> dict[str, float]:
    return {
        score: file.accuracy.estimate,
        f"{score}_low": file.accuracy.low,
        f"{score}_high": file.accuracy.high,
        "drop": file.drop.estimate,
        "drop_high": file.drop.high,
        **file.further,
        "parity_max": file.parity.max_absolute,
    }


def _measured(file: FileEvidence) -> dict[str, float]:
    times = {
        "latency_p50_ms": file.latency.p50 * 1000,
        "latency_p95_ms": file.latency.p95 * 1000,
        "latency_p99_ms": file.latency.p99 * 1000,
        "speedup": file.speedup.estimate,
        "speedup_low": file.speedup.low,
        "examples_per_second": file.throughput.examples_per_second,
    }
    return {
        "size_bytes": file.size_bytes,
        "gzip_bytes": file.gzip_bytes,
        "parameters": file.parameters,
        "nonzeros": file.nonzeros,
        "macs": file.macs,
        **(times if file.ran else {}),
        "integer_share": file.integer_share,
    }


def headline(evidence: Evidence) -> dict[str, float]:
    """The figures that two compressions are compared by, by the name of a metric.

    Of each file that ships under its target (`litert/drop`), and of the file that MLflow asks by default under their
    own names (`drop`). Where the target's runtime is not here there are no times.
    """
    shipped = [file for file in evidence.files if file.shipped]
    by_target = {
        f"{file.target}/{name}": value for file in shipped for name, value in _headline(evidence, file).items()
    }
    return by_target | _headline(evidence, evidence.served())


def _headline(evidence: Evidence, file: FileEvidence) -> dict[str, float]:
    times = {"latency_p50_ms": file.latency.p50 * 1000, "speedup": file.speedup.estimate} if file.ran else {}
    others = {
        f"{head.name}/{name}": value
        for head in evidence.heads
        for name, value in _scored(file.heads[head.name], head.score).items()
        if name in (head.score, "drop", "drop_high")
    }
    return {
        **others,
        evidence.score: file.accuracy.estimate,
        "drop": file.drop.estimate,
        "drop_high": file.drop.high,
        "size_bytes": file.size_bytes,
        "size_ratio": evidence.teacher(file.target).size_bytes / file.size_bytes,
        **times,
        "integer_share": file.integer_share,
    }


def write_evidence(evidence: Evidence, folder: Path) -> None:
    """Write `evidence.json`: keys sorted, figures of six digits at most, so that `diff` can compare two of them."""
    text = json.dumps(evidence.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def write_choice(rows: Sequence[Tried], folder: Path) -> None:
    """Write `choice.json`: the rows in order."""
    text = json.dumps([row.model_dump(mode="json") for row in rows], indent=1, sort_keys=True, allow_nan=False)
    (folder / CHOICE).write_text(text + "\n", encoding="utf-8")


def open_choice(folder: Path) -> tuple[Tried, ...]:
    """Read `choice.json` from a folder whose digest was checked."""
    return tuple(Tried.model_validate(row) for row in json.loads((folder / CHOICE).read_text(encoding="utf-8")))


def open_evidence(folder: Path) -> Evidence:
    """Read `evidence.json` from a folder.

    Raises:
        StoreError: it is not there, damaged, or of another version than this one reads.

    """
    file = folder / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: no evidence can be read here: {error}; run the recipe again") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{file}: evidence of schema version {version!r}, and {SCHEMA_VERSION} is read here: run the recipe again, "
            "or read it with the Slimline that wrote it"
        )
    try:
        return Evidence.model_validate(content)
    except ValidationError as error:
        raise StoreError(f"{file}: damaged evidence: {error}; run the recipe again") from error
