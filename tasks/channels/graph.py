"""Which channels of a Keras graph stand or fall together.

The dependency graph of Fang et al. ("DepGraph: Towards Any Structural Pruning", 2023), worked out channel by channel:
a filter goes with its normalisation, its depthwise followers, the inputs of what reads it, and every branch that meets
it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.channels.rules import KEPT, ChannelMask, Channels, Numbers, Rule, mixes, rule_for
from tasks.keras_graph.rebuild import Call, Copies, calls_of, flat, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class ChannelEnds:
    """The channels at a layer's first input and at its output, by the number of the unit that each belongs to."""

    inputs: Numbers
    outputs: Numbers


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """A flat model and its units: channels that can only be removed together.

    ends: by layer name, for the layers whose channels can be followed; unit -1 stays.
    units: how many there are.
    groups: sets of units, each of them the channels of the same layers: what widths are chosen for. In the graph's
        order; each unit is in one.
    makers: by group, the names of the layers that make its channels.
    kept_whole: by layer name, why channels of its inputs or its output are never removed.
    """

    model: "tf.keras.Model"
    ends: Mapping[str, ChannelEnds]
    units: int
    groups: tuple[Numbers, ...]
    makers: tuple[tuple[str, ...], ...]
    kept_whole: Mapping[str, str]

    def macs(self, stays: ChannelMask) -> int:
        """Multiply-accumulates for one example of what `cut` makes, in the layers whose channels can be followed.

        Args:
            stays: `(units,)`.

        """
        stays, total = np.append(stays, True), 0
        for node in calls_of(self.model):
            rule, ends = rule_for(node.layer), self.ends.get(node.layer.name)
            if rule is not None and rule.work is not None and ends is not None:
                before, after = (tuple(side.shape[1:]) for side in (node.input_tensors, node.outputs))
                inputs, outputs = int(stays[ends.inputs].sum()), int(stays[ends.outputs].sum())
                total += rule.work(node.layer, before, after, inputs, outputs)
        return total

    def cut(self, stays: ChannelMask) -> "tf.keras.Model":
        """The model without some units' channels: the same layers, smaller.

        Args:
            stays: `(units,)`.

        """
        copies = Copies()
        stays = np.append(stays, True)  # where -1 looks

        def answer(call: Call) -> Any:
            layer = call.layer
            rule, ends = rule_for(layer), self.ends.get(layer.name)
            if rule is None or ends is None:
                return copies.call(layer, call.args, call.kwargs)
            inputs, outputs = stays[ends.inputs], stays[ends.outputs]
            if inputs.all() and outputs.all():
                return copies.call(layer, call.args, call.kwargs)
            changes, weights = rule.cut(layer, inputs, outputs)
            return copies.call(layer, call.args, call.kwargs, weights=weights, **changes)

        return rebuild(self.model, answer)


def graph_of(model: "tf.keras.Model") -> ChannelGraph:
    """A model's graph.

    Raises:
        ConversionError: it is no graph of layers.

    """
    model = flat(model)
    channels = Channels()
    known: dict[str, Numbers] = {}
    followed: dict[str, tuple[Numbers, Numbers]] = {}
    kept_whole: dict[str, str] = {}
    together: list[tuple[tf.keras.layers.Layer, list[Numbers]]] = []  # what is kept whole, and by which layer
    for tensor in model.inputs:
        known[str(id(tensor))] = np.full(tensor.shape[-1] or 0, KEPT)
    for node in calls_of(model):
        layer, inputs = node.layer, [known[key] for key in node.flat_input_ids]
        made = _followed(rule_for(layer), layer, inputs, channels, followed)
        if made is None:
            together.append((layer, inputs))
            for key, shape in zip(node.flat_output_ids, _shapes(node), strict=True):
                known[key] = np.full(shape[-1] or 0 if len(shape) > 1 else 0, KEPT)
        else:
            (key,) = node.flat_output_ids
            known[key] = made
            if mixes(layer):
                together.append((layer, [made]))
    for tensor in model.outputs:
        channels.join(known[str(id(tensor))], KEPT)
    for layer, numbers in together:
        for each in numbers:
            if channels.roots(each).any():  # some could have been removed
                kept_whole[layer.name] = f"{kind(layer)}: its channels cannot be followed"
            channels.join(each, KEPT)
    return _graph(model, channels, followed, kept_whole)


def _followed(
    rule: Rule | None,
    layer: "tf.keras.layers.Layer",
    inputs: list[Numbers],
    channels: Channels,
    followed: dict[str, tuple[Numbers, Numbers]],
) -> Numbers | None:
    """The channels of a call's output, if they can be followed; a layer that is called again has the same ones."""
    if rule is None or not inputs:
        return None
    if layer.name in followed:
        before, made = followed[layer.name]
        again = None if rule.own is not None else rule.follow(layer, inputs, channels)
        if len(before) != len(inputs[0]):
            return None
        channels.join(before, inputs[0])
        if again is not None:
            if len(again) != len(made):
                return None
            channels.join(made, again)
        return made
    made_now = rule.follow(layer, inputs, channels)
    if made_now is not None:
        followed[layer.name] = (inputs[0], made_now)
    return made_now


def _shapes(node: Any) -> list[tuple[int | None, ...]]:
    import tensorflow as tf

    return [tuple(tensor.shape) for tensor in tf.nest.flatten(node.outputs)]


def _graph(
    model: "tf.keras.Model",
    channels: Channels,
    followed: dict[str, tuple[Numbers, Numbers]],
    kept_whole: dict[str, str],
) -> ChannelGraph:
    numbered: dict[int, int] = {channels.root(KEPT): -1}

    def units(numbers: Numbers) -> Numbers:
        return np.array([numbered.setdefault(int(root), len(numbered) - 1) for root in channels.roots(numbers)], int)

    ends = {name: ChannelEnds(units(inputs), units(made)) for name, (inputs, made) in followed.items()}
    makers: dict[int, list[str]] = defaultdict(list)
    for name, end in ends.items():
        rule = rule_for(model.get_layer(name))
        if rule is not None and rule.own is not None:
            for unit in np.unique(end.outputs[end.outputs >= 0]):
                makers[int(unit)].append(name)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for unit in range(len(numbered) - 1):
        groups[tuple(makers[unit])].append(unit)
    return ChannelGraph(
        model,
        ends,
        len(numbered) - 1,
        tuple(np.array(group) for group in groups.values()),
        tuple(groups),
        kept_whole,
    )
