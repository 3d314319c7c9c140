"""What monitor measured of a version on new data, as it is kept, and whether it passes its limits."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from tasks.contract.problem import Problem
from tasks.drift.distributions import Drift
from tasks.drift.limits import MonitorConfig
from tasks.measuring.arrays import Figure
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine
from tasks.measuring.timing import Latency

FILE = "monitoring.json"
SHOWN = 12  # figures in a table for people; the JSON has all


class Monitoring(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A version on new data."""

    schema_version: Literal[1] = 1
    uri: str = Field(description="The version, by number.")
    problem: Problem
    score: str = Field(description="The metric that decides, by its name: accuracy, r2, or another.")
    lower_is_better: bool = Field(False, description="Whether less of it is better, as of an error.")
    examples: int = Field(ge=1, description="New examples that were measured on.")
    examples_held: int = Field(ge=1, description="New examples that there are.")
    confidence: Figure = Field(gt=0, lt=1)
    registered: Interval = Field(description="The metric on the test split when it was registered.")
    accuracy: Interval | None = Field(description="The metric now; none without labels.")
    decay: Interval | None = Field(description="By how much it is worse than the registered one; none without labels.")
    decays: dict[str, Interval] = Field({}, description="The same of each target, where there are several, by name.")
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

    def drifts(self) -> dict[str, Drift]:
        """Every figure that was compared with its reference, by kind and name."""
        kinds = {"input": self.inputs, "target": self.targets, "prediction": self.predictions}
        return {f"{kind}/{drift.name}": drift for kind, drifts in kinds.items() for drift in drifts}


def reasons(monitoring: Monitoring, config: MonitorConfig) -> list[str]:
    """Every limit that is passed: which, and by how much."""
    side = "above" if monitoring.lower_is_better else "below"
    of_targets = {f"the score of {name}": decay for name, decay in monitoring.decays.items()}
    decays = {"the score": monitoring.decay, **of_targets}
    why = [
        f"max_decay = {config.max_decay:g}: {whose} lies {decay.estimate:.4f} {side} the registered one (interval "
        f"{decay.low:.4f} to {decay.high:.4f})"
        for whose, decay in decays.items()
        if decay and decay.estimate > config.max_decay and decay.low > 0
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
    now, before, decay = monitoring.accuracy, monitoring.registered.estimate, monitoring.decay
    scored = (
        f"{monitoring.score} {now.estimate:.4f}, {decay.estimate:+.4f} worse than the registered {before:.4f} "
        f"({decay.low:+.4f} to {decay.high:+.4f})."
        if now and decay
        else f"{monitoring.score} not measured: the new data have no labels (registered {before:.4f})."
    )
    slower = f", {monitoring.slowdown:.2f} times the registered" if monitoring.slowdown else ""
    drifts = sorted(monitoring.drifts().items(), key=lambda item: -item[1].stability_index)
    lines = [
        f"# {monitoring.uri}: {'degraded' if monitoring.reasons else 'healthy'}",
        *verdict,
        "",
        f"{monitoring.examples:,} of {monitoring.examples_held:,} new examples. {scored[:1].upper()}{scored[1:]}",
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
