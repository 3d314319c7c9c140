"""Sensitivity: what each layer costs in fewer bits and with fewer channels, one change at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from tasks.channels.config import ChannelConfig
from tasks.channels.gates import gated
from tasks.channels.graph import graph_of
from tasks.channels.importance import Criterion
from tasks.channels.rules import rule_for
from tasks.channels.shrink import scored
from tasks.contract.artifact import EvidenceArtifact, ModelArtifact
from tasks.contract.errors import ConversionError
from tasks.contract.named import Array
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence import plots
from tasks.evidence.measured_on import measured_on
from tasks.evidence.sensitivities import FILE, PLOT, Cost, LayerCosts, Sensitivity
from tasks.formats.keras import files as keras
from tasks.keras_graph.asked import asked
from tasks.keras_graph.rebuild import kind
from tasks.measuring.config import ValidateConfig
from tasks.quantization.mixed_precision import change
from tasks.quantization.switched import switched
from tasks.store import tracking
from tasks.store.stage import StageRun, stage

if TYPE_CHECKING:
    import tensorflow as tf

NO_KERNEL = "it has no integer kernel of its own"
NOT_FOLLOWED = "its channels are outputs of the model, or cannot be followed"
TOO_FEW = "it has too few channels for that"


class SensitivityConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Sensitivity"):
    """How each layer is changed by itself, to see what it costs; only `slimline sensitivity` looks at it."""

    bits: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        (8, 4),
        description="Widths of kernels: lower ones show which layers would need more than 8 bits if all others had "
        "fewer.",
        json_schema_extra={"position": 0},
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.25, 0.5),
        description="Shares of a layer's channels that are taken away, the least important ones; higher tells more of "
        "hard cuts.",
        json_schema_extra={"position": 1},
    )
    criterion: Criterion = Field(
        "taylor",
        description="What makes a channel matter, as in prune.channels.criterion.",
        json_schema_extra={"position": 2},
    )
    examples: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Validation examples that are asked about each change, and training examples that set ranges and "
        "rank channels: more narrow the intervals, and take longer.",
        json_schema_extra={"position": 3},
    )


class Change(NamedTuple):
    """One change of one layer: by whose name, what it is called, the model, and the block in which it holds."""

    layer: str
    name: str
    model: "tf.keras.Model"
    made: AbstractContextManager[None]


def sensitivity(
    model: "tf.keras.Model", data: Dataset, config: SensitivityConfig, validation: ValidateConfig, *, seed: int
) -> Sensitivity:
    """What every layer costs in fewer bits and with fewer channels, the others as they are.

    Kernels are rounded as files have them, for each channel by the pair rule; outputs in the ranges that calibration
    finds (as `quantize` with post_training does, with batch normalisation folded). Channels go as pruning takes them,
    with all that goes with them. Each answer is compared with the unchanged model's to the same examples.

    Args:
        model: left as it is.
        data: whose validation split is asked; the training split sets ranges and ranks channels.
        config: which changes, on how many examples.
        validation: names the metrics and the confidence.
        seed: of bootstraps.

    Raises:
        ConversionError: the model is no graph of layers, or none of them can be changed.
        MetricError: as `measure_of`.

    """
    x, y = data.sample("validation", config.examples)
    measures = measured_on(data, "validation", y, validation.model_copy(update={"max_examples": config.examples}), seed)
    missing: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}

    def leave_out(layer: "tf.keras.layers.Layer", names: list[str], why: str) -> None:
        kinds[layer.name] = kind(layer)
        missing.setdefault(layer.name, {}).update(dict.fromkeys(names, why))

    changes = [*_of_bits(model, data, config, leave_out), *_of_channels(model, data, config, leave_out)]
    if not changes:
        raise ConversionError(
            f"model '{model.name}' has no layer whose bits or channels can be changed by itself: its layers have no "
            "integer kernel, and no channels that can be followed"
        )
    kinds |= {each.layer: kind(each.model.get_layer(each.layer)) for each in changes}
    listener().note("sensitivity", f"{len(changes)} changes of {len({each.layer for each in changes})} layers")
    unchanged: dict[int, Array] = {}
    costs: dict[str, dict[str, Cost]] = {}
    for each in changes:
        if id(each.model) not in unchanged:
            unchanged[id(each.model)] = asked(each.model, x)
        before = unchanged[id(each.model)]
        with each.made:
            after = asked(each.model, x)
        drops = {head.name: measures[head.name].drop(head.of(before), head.of(after)) for head in data.heads}
        costs.setdefault(each.layer, {})[each.name] = Cost(change=change(after, before), drops=drops)
    whole = asked(model, x)
    return Sensitivity(
        examples=len(x),
        confidence=validation.confidence,
        metrics={head.name: measures[head.name].metric.name for head in data.heads},
        scores={head.name: measures[head.name].interval(head.of(whole)) for head in data.heads},
        layers=tuple(
            LayerCosts(layer=layer, kind=kinds[layer], costs=costs[layer], missing=missing.get(layer, {}))
            for layer in costs
        ),
        left_out={
            layer: "; ".join(dict.fromkeys([f"{kinds[layer]}: {why}" for why in whys.values()]))
            for layer, whys in missing.items()
            if layer not in costs
        },
    )


LeaveOut = Callable[["tf.keras.layers.Layer", list[str], str], None]


def _of_bits(
    model: "tf.keras.Model", data: Dataset, config: SensitivityConfig, leave_out: LeaveOut
) -> Iterator[Change]:
    """Kernels of fewer bits and outputs of 8, of every layer that has an integer kernel."""
    parts = switched(model, data.sample("train", config.examples)[0])
    for layer in parts.model.layers:
        weights = [f"weights_{bits}" for bits in config.bits]
        if layer.name in parts.switches:
            for name, bits in zip(weights, config.bits, strict=True):
                yield Change(layer.name, name, parts.model, parts.weights(layer.name, bits))
            yield Change(layer.name, "outputs_8", parts.model, parts.outputs(layer.name))
        elif any(len(weight.shape) > 1 for weight in layer.trainable_weights):
            leave_out(layer, [*weights, "outputs_8"], NO_KERNEL)


def _of_channels(
    model: "tf.keras.Model", data: Dataset, config: SensitivityConfig, leave_out: LeaveOut
) -> Iterator[Change]:
    """A layer without shares of its least important channels, of every layer that makes channels."""
    graph = graph_of(model)
    parts = gated(graph)
    scores = scored(graph, data, ChannelConfig(criterion=config.criterion, examples=config.examples))
    names = [f"channels_{100 * share:g}" for share in config.shares]
    for layer in graph.model.layers:
        rule, ends = rule_for(layer), graph.ends.get(layer.name)
        if rule is None or rule.own is None or ends is None:
            if any(len(weight.shape) > 1 for weight in layer.trainable_weights):
                leave_out(layer, names, NOT_FOLLOWED)
            continue
        units = np.unique(ends.outputs[ends.outputs >= 0])
        units = units[np.isfinite(scores[units])]
        if not len(units):
            leave_out(layer, names, NOT_FOLLOWED)
            continue
        least = units[np.argsort(scores[units], kind="stable")]
        for name, share in zip(names, config.shares, strict=True):
            count = int(share * len(least))
            if count:
                yield Change(layer.name, name, parts.model, parts.without(least[:count]))
            else:
                leave_out(layer, [name], TOO_FEW)


@stage("sensitivity", reuse=lambda arguments: not arguments["validation"].called)
def measure_sensitivity(
    run: StageRun,
    model: ModelArtifact,
    data: DataArtifact,
    config: SensitivityConfig,
    validation: ValidateConfig,
    seed: int,
) -> EvidenceArtifact:
    """Change every layer by itself, and keep what it costs as JSON, as a plot and as metrics."""
    measured = sensitivity(keras.load(tracking.fetch(model)), open_prepared(data), config, validation, seed=seed)
    for layer in measured.layers:
        for name, cost in layer.costs.items():
            drops = {
                f"{layer.layer}/{name}/drop/{head}".rstrip("/"): each.estimate for head, each in cost.drops.items()
            }
            tracking.log_metrics(run.run_id, {f"{layer.layer}/{name}/change": cost.change, **drops})
    folder = run.work / "sensitivity"
    folder.mkdir()
    (folder / FILE).write_text(measured.model_dump_json(indent=1) + "\n")
    plots.costs_by_layer(measured).savefig(folder / PLOT)
    return run.keep_evidence(folder)
