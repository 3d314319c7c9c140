"""What integer kernels cannot hold as fake quantization found it, moved to what they can: ranges of sums, biases."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import KERNELS, kind
from tasks.quantization.parameters import STEPS, as_rows, ends, held_kernel, held_steps, kind_of_quantizer, nudged
from tasks.quantization.placement import MOVING, clips
from tasks.quantization.sums import Steps, agreed

if TYPE_CHECKING:
    import tensorflow as tf


def settle(held: "tf.keras.Model") -> None:
    """Move what integer kernels cannot hold as it is, in place: ranges of sums, then biases, which count in steps."""
    _settle_sums(held)
    _settle_biases(held)


def _settle_sums(held: "tf.keras.Model") -> None:
    """Make the range of a sum of two tensors a hair smaller where processors would round it apart: see `sums`."""
    for layer in held.layers:  # what is added before what it is added to: ranges of sums may be sums' inputs
        if kind(layer) != "Add":
            continue
        for node in layer.inbound_nodes:
            sides = [_range_before(parent) for parent in node.parent_nodes]
            given = _range_after(node)
            if len(sides) == 2 and None not in sides and given is not None:
                _settle_sum(sides, given)


def _settle_sum(sides: "list[tf.keras.layers.Layer]", given: "tf.keras.layers.Layer") -> None:
    if kind_of_quantizer(given) != "MovingAverageQuantizer":
        return
    found = np.array(nudged(given))
    first, second = (_steps_between(*ends(side)) for side in sides)
    least, most = found * agreed(first, second, lambda factor: _steps_between(*(found * factor)))
    given.quantizer_vars["min_var"].assign(least)
    given.quantizer_vars["max_var"].assign(most)


def _settle_biases(held: "tf.keras.Model") -> None:
    """Round biases in place to what integer kernels add: whole numbers of an input's step times a kernel's step.

    The files can hold them only so. A bias between two of them moves few values by a step, but the next layers move
    more for it: after eight, one answer in fifty was another class.
    """
    for layer in held.layers:
        if kind(layer) != "QuantizeWrapperV2" or not layer.layer.use_bias:
            continue
        found = {_input_step(node) for node in layer.inbound_nodes}
        step = found.pop() if len(found) == 1 else None
        if step is None:  # called on unlike tensors: no number is whole for both
            continue
        unit = held_steps(layer).astype(np.float64) * step
        bias = layer.layer.bias.numpy()
        some = as_rows(held_kernel(layer), KERNELS[kind(layer.layer)][1]).numpy().any(axis=0)
        layer.layer.bias.assign(np.where(some, np.rint(bias / unit) * unit, bias).astype(np.float32))


def _input_step(node: Any) -> float | None:
    """The step of the range that a call's tensor was held to; none if it was not."""
    held = _range_before(node.parent_nodes[0]) if node.parent_nodes else None
    if held is None:
        return None
    low, high = ends(held)
    return (high - low) / STEPS


def _range_before(node: Any) -> "tf.keras.layers.Layer | None":
    """The range layer that what a call gives comes out of, through what only moves values."""
    while kind(node.layer) in MOVING and node.parent_nodes:
        node = node.parent_nodes[0]
    return node.layer if kind(node.layer) == "QuantizeLayer" else None


def _range_after(node: Any) -> "tf.keras.layers.Layer | None":
    """The range layer that alone takes what a call gives, behind a Relu at most."""
    after = [taker for taker in node.layer.outbound_nodes if node in taker.parent_nodes]
    if len(after) == 1 and clips(after[0].layer):
        return _range_after(after[0])
    return after[0].layer if len(after) == 1 and kind(after[0].layer) == "QuantizeLayer" else None


def _steps_between(low: float, high: float) -> Steps:
    """A range's steps as the files have them, which are told its ends in float32."""
    least, most = float(np.float32(low)), float(np.float32(high))
    size = (most - least) / STEPS
    return Steps(np.float32(size), round(-least / size))
