"""What monitor measured of a version on new data, as it is kept, and whether it passes its limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.drift.distributions import Drift
from tasks.drift.limits import MonitorConfig
from tasks.measuring.arrays import Figure
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine
from tasks.measuring.timing import Latency

FILE = "monitoring.json"
SHOWN = 12  # figures in a table for people; the JSON has all


class HeadMonitoring(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right a version's answers to new data are: its one output's, or those of one of several."""

    problem: Problem
    score: str = Field(description="The metric that decides, by its name: accuracy, r2, or another.")
    lower_is_better: bool = Field(False, description="Whether less of it is better, as of an error.")
    registered: Interval = Field(description="The metric on the test split when it was registered.")
    accuracy: Interval | None = Field(None, description="The metric now; none without labels.")
    decay: Interval | None = Field(
        None, description="By how much it is worse than the registered one; none without labels."
    )
    decays: dict[str, Interval] = Field({}, description="The same of each target, where there are several, by name.")


class Monitoring(HeadMonitoring, frozen=True, extra="forbid", allow_inf_nan=False):
    """A version on new data. Of several outputs what is said of answers is the first one's."""

    schema_version: Literal[1] = 1
    uri: str = Field(description="The version, by number.")
    heads: dict[str, HeadMonitoring] = Field({}, description="Of several outputs, each one, by its name.")
    examples: int = Field(ge=1, description="New examples that were measured on.")
    examples_held: int = Field(ge=1, description="New examples that there are.")
    confidence: Figure = Field(gt=0, lt=1)
    columns: tuple[str, ...] = Field((), description="The names of a table's columns, which name its inputs.")
    inputs: tuple[Drift, ...] = Field(description="What examples are like, the furthest from training first.")
    targets: tuple[Drift, ...] = Field(description="What labels or values are like; empty without them.")
    predictions: tuple[Drift, ...] = Field(description="What is answered, against the answers to the test split.")
    latency: Latency
    registered_latency_p50: Figure = Field(gt=0, description="Seconds.")
    slowdown: Figure | None = Field(description="The latter over the former; none on another processor.")
    machine: Machine
    reasons: tuple[str, ...] = Field(description="Why it is degraded; empty if it is not.")
    notes: tuple[str, ...] = Field(description="What could not be measured, and why.")

    @property
    def each_head(self) -> dict[str, HeadMonitoring]:
        """What is said of the answers of each output, by its name; the only one has none."""
        return self.heads or {ONE: self}

    def drifts(self) -> dict[str, Drift]:
        """Every figure that was compared with its reference, by kind and name."""
        kinds = {"input": self.inputs, "target": self.targets, "prediction": self.predictions}
        return {f"{kind}/{drift.name}": drift for kind, drifts in kinds.items() for drift in drifts}


def reasons(monitoring: Monitoring, config: MonitorConfig) -> list[str]:
    """Every limit that is passed: which, and by how much."""
    why = [
        f"max_decay = {config.max_decay:g}: {whose} lies {decay.estimate:.4f} "
        f"{'above' if head.lower_is_better else 'below'} the registered one (interval {decay.low:.4f} to "
        f"{decay.high:.4f})"
        for name, head in monitoring.each_head.items()
        for whose, decay in _decays(name, head)
        if decay.estimate > config.max_decay and decay.low > 0
    ]
    why += [
        f"max_drift = {config.max_drift:g}: {_called(name, monitoring)} has moved by a population stability index of "
        f"{drift.stability_index:.3f} (p = {drift.p_value:.2g})"
        for name, drift in monitoring.drifts().items()
        if drift.drifted
    ]
    if monitoring.slowdown and monitoring.slowdown > config.max_slowdown:
        why.append(
            f"max_slowdown = {config.max_slowdown:g}: a call takes {monitoring.slowdown:.2f} times as long as when it "
            "was registered"
        )
    return why


def _decays(name: str, head: HeadMonitoring) -> Iterator[tuple[str, Interval]]:
    """How much worse an output's score is, and that of each of its targets, with what a person calls them."""
    if head.decay:
        yield f"the score of {name}" if name else "the score", head.decay
    for target, decay in head.decays.items():
        yield f"the score of {name}/{target}" if name else f"the score of {target}", decay


def _called(figure: str, monitoring: Monitoring) -> str:
    """What a person calls a figure: a table's column by its name."""
    kind, _, name = figure.partition("/")
    return f"column {name}" if kind == "input" and name in monitoring.columns else figure


def write_monitoring(monitoring: Monitoring, folder: Path) -> None:
    """Put it into a folder, as JSON."""
    (folder / FILE).write_text(monitoring.model_dump_json(indent=1) + "\n")


def open_monitoring(folder: Path) -> Monitoring:
    """What a folder that `write_monitoring` filled holds."""
    return Monitoring.model_validate_json((folder / FILE).read_bytes())


def as_markdown(monitoring: Monitoring) -> str:
    """It as a page for people."""
    verdict = [f"- {reason}" for reason in monitoring.reasons] or ["Inside its limits."]
    scored = " ".join(_scored(name, head) for name, head in monitoring.each_head.items())
    slower = f", {monitoring.slowdown:.2f} times the registered" if monitoring.slowdown else ""
    drifts = sorted(monitoring.drifts().items(), key=lambda item: -item[1].stability_index)
    lines = [
        f"# {monitoring.uri}: {'degraded' if monitoring.reasons else 'healthy'}",
        *verdict,
        "",
        f"{monitoring.examples:,} of {monitoring.examples_held:,} new examples. {scored}",
        f"Median latency {monitoring.latency.p50 * 1000:.4f} ms{slower}.",
        "",
        "| figure | population stability index | p, corrected | |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {_called(name, monitoring).replace('|', '/')} | {drift.stability_index:.3f} | {drift.p_value:.2g} | "
            f"{'drifted' if drift.drifted else ''} |"
            for name, drift in drifts[:SHOWN]
        ),
        "",
        *(f"- {note}" for note in monitoring.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _scored(name: str, head: HeadMonitoring) -> str:
    """An output's score now and before, as a sentence."""
    called, before = f"{name}: {head.score}" if name else head.score[:1].upper() + head.score[1:], head.registered
    if not (head.accuracy and head.decay):
        return f"{called} not measured: the new data have no labels (registered {before.estimate:.4f})."
    return (
        f"{called} {head.accuracy.estimate:.4f}, {head.decay.estimate:+.4f} worse than the registered "
        f"{before.estimate:.4f} ({head.decay.low:+.4f} to {head.decay.high:+.4f})."
    )
