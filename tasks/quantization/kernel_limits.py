"""What integer kernels cannot compute as fake quantization has it, moved to what they can: ranges of sums, biases."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import KERNELS, kind
from tasks.quantization.parameters import (
    STEPS,
    as_rows,
    channel_steps,
    ends,
    is_fake_quantized,
    kind_of_quantizer,
    nudged,
    quantized_kernel,
)
from tasks.quantization.placement import MOVING, clips
from tasks.quantization.stored_weights import store
from tasks.quantization.sums import Steps, agreed

if TYPE_CHECKING:
    import tensorflow as tf


def settle(quantized: "tf.keras.Model", float_layers: Collection[str] = ()) -> None:
    """Move, in place, what integers cannot say: ranges of sums, then biases and stored weights, which count in steps.

    Args:
        quantized: a fake-quantized model.
        float_layers: names of layers that stay in float.

    """
    _settle_sums(quantized)
    _settle_biases(quantized)
    if is_fake_quantized(quantized):
        store(quantized, float_layers)


def _settle_sums(quantized: "tf.keras.Model") -> None:
    """Make the range of a sum of two tensors a hair smaller where processors would round it apart: see `sums`."""
    for layer in quantized.layers:  # what is added before what it is added to: ranges of sums may be sums' inputs
        if kind(layer) != "Add":
            continue
        for node in layer.inbound_nodes:
            sides = [_range_before(parent) for parent in node.parent_nodes]
            output_range = _range_after(node)
            if len(sides) == 2 and None not in sides and output_range is not None:
                _settle_sum(sides, output_range)


def _settle_sum(sides: "list[tf.keras.layers.Layer]", output_range: "tf.keras.layers.Layer") -> None:
    if kind_of_quantizer(output_range) != "MovingAverageQuantizer":
        return
    current = np.array(nudged(output_range))
    first, second = (_steps_between(*ends(side)) for side in sides)
    least, most = current * agreed(first, second, lambda factor: _steps_between(*(current * factor)))
    output_range.quantizer_vars["min_var"].assign(least)
    output_range.quantizer_vars["max_var"].assign(most)


def _settle_biases(quantized: "tf.keras.Model") -> None:
    """Round biases in place to what integer kernels add: whole numbers of an input's step times a kernel's step.

    The files can hold them only so. A bias between two of them moves few values by a step, but the next layers move
    more for it: after eight, one answer in fifty was another class.
    """
    for layer in quantized.layers:
        if kind(layer) != "QuantizeWrapperV2" or not layer.layer.use_bias:
            continue
        input_steps = {_input_step(node) for node in layer.inbound_nodes}
        step = input_steps.pop() if len(input_steps) == 1 else None
        if step is None:  # called on unlike tensors: no number is whole for both
            continue
        unit = channel_steps(layer).astype(np.float64) * step
        bias = layer.layer.bias.numpy()
        some = as_rows(quantized_kernel(layer), KERNELS[kind(layer.layer)][1]).numpy().any(axis=0)
        layer.layer.bias.assign(np.where(some, np.rint(bias / unit) * unit, bias).astype(np.float32))


def _input_step(node: Any) -> float | None:
    """The step of the range of a call's input; none if it has no range."""
    range_layer = _range_before(node.parent_nodes[0]) if node.parent_nodes else None
    if range_layer is None:
        return None
    low, high = ends(range_layer)
    return (high - low) / STEPS


def _range_before(node: Any) -> "tf.keras.layers.Layer | None":
    """The range layer that a call's output comes out of, through what only moves values."""
    while kind(node.layer) in MOVING and node.parent_nodes:
        node = node.parent_nodes[0]
    return node.layer if kind(node.layer) == "QuantizeLayer" else None


def _range_after(node: Any) -> "tf.keras.layers.Layer | None":
    """The range layer that alone takes a call's output, behind a Relu at most."""
    after = [taker for taker in node.layer.outbound_nodes if node in taker.parent_nodes]
    if len(after) == 1 and clips(after[0].layer):
        return _range_after(after[0])
    return after[0].layer if len(after) == 1 and kind(after[0].layer) == "QuantizeLayer" else None


def _steps_between(low: float, high: float) -> Steps:
    """A range's steps as the files have them, which keep its ends in float32."""
    least, most = float(np.float32(low)), float(np.float32(high))
    size = (most - least) / STEPS
    return Steps(np.float32(size), round(-least / size))
