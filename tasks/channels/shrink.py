"""A model with fewer channels: the least important ones leave, in one step or in several with training between."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.channels import kept_masks
from tasks.channels.config import ChannelConfig, Goal
from tasks.channels.file_costs import CALIBRATION, FileCosts, faster, keeps
from tasks.channels.graph import ChannelGraph, graph_of
from tasks.channels.importance import Scores, magnitude, norm_scale, taylor
from tasks.channels.rules import ChannelMask
from tasks.channels.select import fewest, order
from tasks.channels.spread import by_sensitivity
from tasks.contract.errors import PruningFailed
from tasks.data import Dataset
from tasks.keras_graph.asked import as_called
from tasks.keras_graph.output_meaning import meaning_for, outputs_learned
from tasks.training.losses import one_each
from tasks.training.mistakes import label_loss

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 32  # of the batches whose slopes taylor squares: larger ones would even out what examples disagree about

Recover = Callable[["tf.keras.Model", int], None]  # trains in place after a step (from 1)


def shrink(
    student: "tf.keras.Model",
    data: Dataset,
    config: ChannelConfig,
    goal: Goal,
    teacher: "tf.keras.Model | None",
    recover: Recover,
    checkpoints: Path | None = None,
) -> "tf.keras.Model":
    """An ordinary Keras 2 model with the same layers and fewer channels in them.

    Each step works out anew what matters and how few units would be enough for the goal, and removes an equal part of
    what is still to go (as Molchanov et al. 2017 do it in many small steps).

    Args:
        student: left as it is.
        data: what `taylor` looks at, and what files are timed with.
        config: how much, and by which criterion.
        goal: what the shipped file is to be.
        teacher: whose float file the goal is compared with; the student's own if left out.
        recover: trains between two steps.
        checkpoints: a folder where each step's choice is kept: a cutting that was killed goes on with the same one.

    Raises:
        ConversionError: the student is no graph of layers.
        PruningFailed: what is asked for cannot be reached; says what can.

    """
    first = graph_of(student)

    @cache  # it makes and opens files, for which a choice that was kept has no need
    def enough() -> Callable[[ChannelGraph, ChannelMask], bool]:
        return _enough(first, data, config, goal, student if teacher is None else teacher)

    def chosen(graph: ChannelGraph, left: int) -> ChannelMask:
        stays = order(graph, scored(graph, data, config), config.floor, config.multiple)
        count = fewest(stays, graph.units, lambda mask: enough()(graph, mask))
        if count is None:
            raise _unreachable(first, graph, stays(graph.units), config, goal)
        return stays(-(-count // left))

    model = first.model
    for step in range(1, config.steps + 1):
        graph = first if step == 1 else graph_of(model)
        left = config.steps + 1 - step
        identity = kept_masks.identity(graph.model, data.digest, config, goal)
        mask = kept_masks.kept(checkpoints, step, identity, graph.units)
        if mask is None:
            mask = chosen(graph, left)
            kept_masks.keep(checkpoints, step, identity, mask)
        if not mask.all():
            model = graph.cut(mask)
        if left > 1:
            recover(model, step)
    return model


def scored(graph: ChannelGraph, data: Dataset, config: ChannelConfig) -> Scores:
    """How much each unit of a graph matters, by the config's criterion, and spread as it says: `(units,)`."""
    scores = _by_criterion(graph, data, config)
    if config.spread == "criterion":
        return scores
    return by_sensitivity(graph, scores, data.sample("train", config.examples)[0])


def _by_criterion(graph: ChannelGraph, data: Dataset, config: ChannelConfig) -> Scores:
    if config.criterion == "norm_scale":
        return norm_scale(graph)
    if config.criterion != "taylor":
        return magnitude(graph, 1 if config.criterion == "l1" else 2)
    by_labels = label_loss(data)
    means = [meaning_for(graph.model, head.problem, number) for number, head in enumerate(data.heads)]

    def loss(y: Any, predictions: Any) -> "tf.Tensor":
        learned = [outputs_learned(*each) for each in zip(one_each(predictions), means, strict=True)]
        return by_labels(y, learned if len(learned) > 1 else learned[0])

    x, y = data.sample("train", config.examples)
    parts = (slice(start, start + BATCH) for start in range(0, len(x), BATCH))
    return taylor(graph, ((as_called(x[part]), as_called(y[part])) for part in parts), loss)


def _enough(
    first: ChannelGraph, data: Dataset, config: ChannelConfig, goal: Goal, teacher: "tf.keras.Model"
) -> Callable[[ChannelGraph, ChannelMask], bool]:
    """Whether what stays of a graph, itself perhaps cut from the first one, is as small as is asked for."""
    whole = np.ones(first.units, bool)
    if config.of == "channels":
        return lambda _, mask: int(mask.sum()) <= (1 - config.remove) * first.units
    if config.of == "macs":
        most = (1 - config.remove) * first.macs(whole)
        return lambda graph, mask: graph.macs(mask) <= most
    if config.of == "budget" and not goal.limits:
        return lambda _, __: True
    costs = FileCosts(goal, data.classes, data.sample("train", CALIBRATION)[0])
    if config.of == "latency":
        check = faster(costs, first.model, 1 - config.remove) if config.remove else lambda _: True
    else:
        check = keeps(costs, teacher)
    return lambda graph, mask: check(graph.cut(mask))


def _unreachable(
    first: ChannelGraph, graph: ChannelGraph, least: ChannelMask, config: ChannelConfig, goal: Goal
) -> PruningFailed:
    share = graph.macs(least) / max(first.macs(np.ones(first.units, bool)), 1)
    asked = f"remove = {config.remove:g} of the {config.of}"
    if config.of == "budget":
        limits = {name: value for name, value in goal.model_dump().items() if name.startswith(("max", "min")) and value}
        asked = ", ".join(f"budget.{name} = {value:g}" for name, value in limits.items())
    whole = f"; {', '.join(first.kept_whole)} cannot be followed and keep theirs" if first.kept_whole else ""
    return PruningFailed(
        f"prune.channels: {asked} is not reached: floor = {config.floor:g} and multiple = {config.multiple} leave "
        f"{int(least.sum())} of {first.units} channels and {share:.0%} of the multiply-accumulates{whole}. Lower "
        "prune.channels.floor or multiple, ask for less, or name a smaller student (student.model)"
    )


def widths(model: "tf.keras.Model") -> dict[str, int]:
    """How many output channels each layer with a kernel has, by the layer's name."""
    return {
        layer.name: int(layer.output_shape[-1])
        for layer in model.layers
        if any("kernel" in weight.name.split("/")[-1] for weight in layer.weights)
    }
