"""What compare measured of a candidate and a champion, as it is kept, and whether the candidate is worse."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from tasks.contract.artifact import Precision, Target
from tasks.contract.errors import StoreError
from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.evidence.evidence import Evidence, FileEvidence
from tasks.measuring.arrays import Figure
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine
from tasks.measuring.timing import Latency

FILE, TABLE = "comparison.json", "comparison.md"


class PromoteConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Promote"):
    """When a candidate may take the champion's place."""

    first: Literal["accuracy", "latency", "size"] = Field(
        "accuracy",
        description="What a candidate must not be worse in than the champion. The budget holds the rest.",
        json_schema_extra={"position": 0},
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        description="How much worse still counts as not worse, at the bad end of the interval: for accuracy in the "
        "metric's own unit (0.02 is two points), for latency and size as a share of the champion's. More promotes more "
        "easily.",
        json_schema_extra={"position": 1},
    )

    tolerances: dict[str, float] = Field(
        {},
        description="Of a model with several outputs: the tolerance of each one's own metric, by the output's name; "
        "those that are left out take tolerance.",
        json_schema_extra={"position": 2},
    )

    def tolerance_of(self, head: str) -> tuple[str, float]:
        """How much worse an output's metric may be, and the setting that says so."""
        if head in self.tolerances:
            return f"tolerances.{head}", self.tolerances[head]
        return "tolerance", self.tolerance


class Side(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What was measured of one version's file."""

    precision: Precision
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    accuracy: Interval = Field(description="The metric on the test split.")
    scores: dict[str, Interval] = Field({}, description="Of several outputs, each one's metric, by its name.")
    latency: Latency
    size_bytes: int = Field(ge=1)
    integer_share: Figure = Field(ge=0, le=1)


class Pair(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A target's files, side by side."""

    target: Target
    candidate: Side
    champion: Side | None = Field(None, description="None where there is no champion yet.")
    drop: Interval | None = Field(
        None,
        description="By how much the candidate's metric is worse than the champion's, in pairs; `high` is the bad end.",
    )
    drops: dict[str, Interval] = Field({}, description="Of several outputs, each one's, by its name.")
    speedup: Interval | None = Field(
        None, description="The champion's median latency over the candidate's; `low` is the bad end."
    )


class ComparedHead(BaseModel, frozen=True, extra="forbid"):
    """What an output is compared by."""

    name: str = Field(description="The output's; empty where there is no other.")
    score: str = Field(description="The metric that decides, by its name.")
    lower_is_better: bool = Field(description="Whether less of it is better.")

    @property
    def title(self) -> str:
        """What people call the metric: with the output's name where there are others."""
        return f"{self.name}'s {self.score}" if self.name else self.score


class Comparison(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A candidate and a champion on the same test split, on one machine, in one process."""

    schema_version: Literal[1] = 1
    name: str = Field(description="The registered model.")
    candidate: int = Field(description="Its version.")
    champion: int | None = Field(description="Its version; none where there is no champion yet.")
    problem: Problem
    score: str = Field(description="The metric that decides, by its name: accuracy, r2, or another.")
    lower_is_better: bool = Field(False, description="Whether less of it is better, as of an error.")
    data: str = Field(pattern="^[0-9a-f]{64}$", description="The digest of the data.")
    examples: int = Field(ge=1, description="Test examples that were measured on.")
    confidence: Figure = Field(gt=0, lt=1, description="Of every interval, one at a time, with both ends.")
    machine: Machine
    notes: tuple[str, ...] = Field(description="What this comparison does not say.")
    heads: tuple[ComparedHead, ...] = Field((), description="Of several outputs, each one; `score` is the first's.")
    pairs: tuple[Pair, ...] = Field(min_length=1, description="By target; the candidate's first one first.")

    @property
    def each_head(self) -> tuple[ComparedHead, ...]:
        """Every output; the only one has no name."""
        return self.heads or (ComparedHead(name=ONE, score=self.score, lower_is_better=self.lower_is_better),)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Put a comparison into a folder, as JSON and as a table for people."""
    (folder / FILE).write_text(comparison.model_dump_json(indent=1) + "\n")
    (folder / TABLE).write_text(as_markdown(comparison))


def open_comparison(folder: Path) -> Comparison:
    """The comparison that a folder holds.

    Raises:
        StoreError: there is none, or it is not one.

    """
    try:
        return Comparison.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{folder / FILE} is no comparison: {error}") from error


def worse(comparison: Comparison, config: PromoteConfig) -> list[str]:
    """In what the candidate is worse than the champion, in words; empty if it is not, or if there is none.

    Accuracy counts for every target's file, latency and size for the candidate's first: as for the budget.
    """
    rule = f"promote.tolerance = {config.tolerance:g}"
    reasons = []
    for pair in comparison.pairs if config.first == "accuracy" else comparison.pairs[:1]:
        if pair.champion is None or pair.drop is None or pair.speedup is None:
            continue
        if config.first == "accuracy":
            reasons += [line for head in comparison.each_head for line in _less_right(head, pair, config)]
        slower = 1 / pair.speedup.low - 1
        if config.first == "latency" and slower > config.tolerance:
            reasons.append(
                f"{rule}: the {pair.target} file may take {slower:.1%} longer than the champion's (median "
                f"{pair.candidate.latency.p50 * 1000:.4g} ms against {pair.champion.latency.p50 * 1000:.4g} ms)"
            )
        larger = pair.candidate.size_bytes / pair.champion.size_bytes - 1
        if config.first == "size" and larger > config.tolerance:
            reasons.append(
                f"{rule}: the {pair.target} file is {larger:.1%} larger than the champion's "
                f"({pair.candidate.size_bytes:,} against {pair.champion.size_bytes:,} bytes)"
            )
    return reasons


def _less_right(head: ComparedHead, pair: Pair, config: PromoteConfig) -> list[str]:
    """In what one output's answers are worse, in words."""
    drop, (setting, tolerance) = pair.drops.get(head.name, pair.drop), config.tolerance_of(head.name)
    if drop is None or drop.high <= tolerance:
        return []
    side = "above" if head.lower_is_better else "below"
    own = f"; promote.tolerances.{head.name} is for it alone" if head.name and setting == "tolerance" else ""
    return [
        f"promote.{setting} = {tolerance:g}: the {pair.target} file's {head.title} may be {drop.high:.4f} {side} the "
        f"champion's (measured {drop.estimate:.4f}, interval {drop.low:.4f} to {drop.high:.4f}){own}"
    ]


def brought_up_to_date(evidence: Evidence, comparison: Comparison) -> Evidence:
    """A candidate's evidence with what was measured of its files now, for the budget.

    What is relative to the teacher stays as it was recorded: the teacher is not part of a version.
    """
    now = {pair.target: pair.candidate for pair in comparison.pairs}
    files = [
        file.model_copy(update=_measured_now(file, now[file.target])) if file.shipped and file.target in now else file
        for file in evidence.files
    ]
    return evidence.model_copy(update={"files": tuple(files)})


def _measured_now(file: FileEvidence, side: Side) -> dict[str, Any]:
    heads = {
        name: scored.model_copy(update={"accuracy": side.scores.get(name, scored.accuracy)})
        for name, scored in file.heads.items()
    }
    names = ("accuracy", "latency", "size_bytes", "integer_share")
    return {"heads": heads, **{name: getattr(side, name) for name in names}}


def as_markdown(comparison: Comparison) -> str:
    """The comparison as a page for people who decide."""
    against = f"version {comparison.champion}, the champion" if comparison.champion else "nothing: there is no champion"
    lines = [
        f"**{comparison.name} version {comparison.candidate}** against {against}, on the same {comparison.examples:,} "
        f"test examples, one machine ({comparison.machine.name}), timed in turn.",
    ]
    for pair in comparison.pairs:
        lines += ["", *_table(pair, comparison)]
    lines += ["", *(f"- {note}" for note in comparison.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _table(pair: Pair, comparison: Comparison) -> list[str]:
    """One target's figures, narrow enough for the form on which a person approves."""
    sides = [side for side in (pair.champion, pair.candidate) if side]
    numbers = [number for number in (comparison.champion, comparison.candidate) if number]
    heads = comparison.each_head
    rows: list[list[str]] = [
        [pair.target, *(f"{number} ({side.precision})" for number, side in zip(numbers, sides, strict=True))],
        *([head.title, *(f"{_score(side, head).estimate:.4f}" for side in sides)] for head in heads),
        ["p50", *(f"{side.latency.p50 * 1000:.3f} ms" for side in sides)],
        ["size", *(f"{side.size_bytes / 1024:,.1f} KiB" for side in sides)],
        ["in integers", *(f"{side.integer_share:.1%}" for side in sides)],
    ]
    if pair.champion and pair.drop and pair.speedup:
        larger = pair.candidate.size_bytes / pair.champion.size_bytes
        drops = [pair.drops.get(head.name, pair.drop) for head in heads]
        further = [
            "candidate's",
            *(f"{-drop.estimate:+.4f} ({-drop.high:+.4f} to {-drop.low:+.4f})" for drop in drops),
            f"{pair.speedup.estimate:.2f}x as fast ({pair.speedup.low:.2f} to {pair.speedup.high:.2f})",
            f"{larger:.2f}x as large",
            "",
        ]
        rows = [[*row, more] for row, more in zip(rows, further, strict=True)]
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"| --- |{' ---: |' * (len(rows[0]) - 1)}", *body]


def _score(side: Side, head: ComparedHead) -> Interval:
    return side.scores.get(head.name, side.accuracy)
