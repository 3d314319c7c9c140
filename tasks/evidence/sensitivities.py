"""What each layer of a model costs in fewer bits and with fewer channels, as it is kept and shown."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from tasks.contract.named import ONE
from tasks.measuring.arrays import Figure
from tasks.measuring.intervals import Interval

FILE, PLOT = "sensitivity.json", "sensitivity.png"
IN_WORDS = {"weights": "weights in {} bits", "outputs": "outputs in {} bits", "channels": "without {}% of channels"}
Row = dict[str, str]


class Cost(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What one change of one layer does to the model."""

    change: Figure = Field(
        ge=0,
        description="The mean squared change of the model's outputs over their variance, of several outputs the sum: "
        "it ranks what no interval tells apart.",
    )
    drops: dict[str, Interval] = Field(
        description="By output, the only one's name is empty: by how much the metric is worse than the unchanged "
        "model's on the same examples."
    )


class LayerCosts(BaseModel, frozen=True, extra="forbid"):
    """One layer, in every way that it was changed."""

    layer: str
    kind: str = Field(description="The layer's class in Keras.")
    costs: dict[str, Cost] = Field(
        description="By change: weights_8, a kernel of 8 bits; outputs_8, the layer's outputs in 8 bits; channels_25, "
        "without a quarter of its channels, the least important ones, and what goes with them."
    )
    missing: dict[str, str] = Field(description="Changes that could not be made, and why.")

    @property
    def worst(self) -> float:
        """The largest change of the outputs."""
        return max(cost.change for cost in self.costs.values())


class Sensitivity(BaseModel, frozen=True, extra="forbid"):
    """Every layer of a model, one change at a time, on examples of the validation split."""

    schema_version: Literal[1] = 1
    examples: int = Field(ge=1, description="Of the validation split, that were asked.")
    confidence: Figure = Field(gt=0, lt=1)
    metrics: dict[str, str] = Field(description="By output, the only one's name is empty: what drops are of.")
    scores: dict[str, Interval] = Field(description="By output: the unchanged model's.")
    layers: tuple[LayerCosts, ...] = Field(description="In the model's order.")
    left_out: dict[str, str] = Field(description="Layers with weights that could not be changed at all, and why.")


def open_sensitivity(folder: Path) -> Sensitivity:
    """Read it from a folder whose digest was checked."""
    return Sensitivity.model_validate_json((folder / FILE).read_text())


def in_words(change: str) -> str:
    """What was done to a layer, for people: of `weights_8`, `weights in 8 bits`."""
    kind, _, number = change.partition("_")
    return IN_WORDS[kind].format(number)


def ranked(sensitivity: Sensitivity) -> list[tuple[LayerCosts, str, Cost]]:
    """Every change of every layer, the most costly first."""
    each = [(layer, change, cost) for layer in sensitivity.layers for change, cost in layer.costs.items()]
    return sorted(each, key=lambda one: -one[2].change)


def as_rows(sensitivity: Sensitivity) -> list[Row]:
    """The table that people see, the most costly first; a star marks drops whose interval lies above zero."""

    def drop(cost: Cost, head: str) -> str:
        low, middle, high = cost.drops[head].low, cost.drops[head].estimate, cost.drops[head].high
        return f"{middle:+.4f} ({low:+.4f} to {high:+.4f}){' *' if low > 0 else ''}"

    return [
        {
            "layer": layer.layer,
            "kind": layer.kind,
            "change": in_words(change),
            **{f"drop of {said(head, metric)}": drop(cost, head) for head, metric in sensitivity.metrics.items()},
            "outputs moved by": f"{cost.change:.2e}",
        }
        for layer, change, cost in ranked(sensitivity)
    ]


def said(head: str, metric: str) -> str:
    """A metric, and of several outputs whose it is."""
    return metric if head == ONE else f"{head} {metric}"


def notes(sensitivity: Sensitivity) -> list[str]:
    """What could not be changed, a line for each reason."""
    lines = [f"{layer}: not changed: {why}" for layer, why in sensitivity.left_out.items()]
    alike: dict[tuple[str, str], list[str]] = {}
    for each in sensitivity.layers:
        for why in dict.fromkeys(each.missing.values()):
            changes = ", ".join(in_words(change) for change, other in each.missing.items() if other == why)
            alike.setdefault((changes, why), []).append(each.layer)
    return lines + [f"{', '.join(layers)}: not {changes}: {why}" for (changes, why), layers in alike.items()]
