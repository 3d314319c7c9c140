"""From fake quantization to the form that TensorRT builds integer kernels from.

TensorRT reads a QuantizeLinear and DequantizeLinear as orders, not hints ("explicit quantization": NVIDIA TensorRT
documentation, Inference Library, Explicit Quantization; rules in quotes are from its Q/DQ Layer-Placement
Recommendations). `lower` follows them:

- "symmetric quantization": every zero point is 0 and every integer signed. A range of the Keras model, asymmetric in
  256 steps, becomes the smallest one about zero around it: scale = max(|least|, |most|) / 127. Behind a Relu, where
  nothing is negative, that leaves 127 steps of 255: half the resolution, which is what TensorRT's kernels can do.
- "Quantize all inputs of weighted operations": what a Conv, Gemm or MatMul takes, per tensor, and its kernel, per
  output channel. Kernels are stored as 8-bit numbers behind a DequantizeLinear, as NVIDIA's Model Optimizer leaves them
  (`qdq_to_dq`), which TensorRT takes from version 10 on. Biases stay in float: a DequantizeLinear of 32-bit integers is
  refused. A ConvTranspose stays in float: TensorRT's integer kernels take scales by its input channels (NVIDIA/TensorRT
  issue 2380), and the Keras model has it by output channels, as other runtimes want it.
- "By default, do not quantize the outputs": a range stays only where its integers reach another kernel. The last layer
  gives floats to softmax, and activations without an integer form get floats.
- "Do not simulate batch normalization and ReLU fusions": a Relu stays, directly behind what computes, where TensorRT
  makes one kernel of both. With ranges about zero it could not go: negative values are no longer cut off by them.
- "Quantize the residual input in skip connections": of the two sides of an Add, the one from the kernel that runs last
  comes in float, so that kernel, Add and Relu become one. Model Optimizer does so too (`build_non_residual_input_map`).

Where operators that only move values stand between a kernel and its range, the range stands on both of their sides.
"""

from typing import TYPE_CHECKING

import numpy as np

from tasks.formats.onnx.graph import (
    array,
    bypass,
    constant,
    dequantize_before,
    hand_over,
    number,
    only_consumer,
    producer,
)
from tasks.formats.onnx.lowering import (
    MOVING,
    fold_padding,
    fold_rescaling,
    join_biases,
    join_channel_biases,
    quantize_kernel,
    range_like,
    steps_of,
)
from tasks.formats.tensorrt.rules import ELEMENTWISE, UNWEIGHTED, WEIGHTED
from tasks.quantization.kernel_steps import KernelSteps

if TYPE_CHECKING:
    import onnx_ir as ir

STEPS = 127  # on each side of zero
SHAPING = MOVING - {"GlobalMaxPool", "MaxPool", "Pad", "ReduceMax"}  # the same values under other indices


def lower(graph: "ir.Graph", kernels: KernelSteps) -> None:
    """Rewrites a graph that tf2onnx made of a frozen fake-quantized model, in place; `kernels` are that model's."""
    join_biases(graph)
    join_channel_biases(graph)
    fold_padding(graph)
    _join_pairs(graph)
    _mirror(graph)
    fold_rescaling(graph, most=0)
    _lower_ceilings(graph)
    _activate_early(graph)
    _drop_unused_ranges(graph, kernels)
    _free_last_addends(graph, kernels)
    _insert_ranges_in_front(graph)
    _insert_ranges_behind(graph)
    for node in list(graph):
        steps = _integer_steps(node, kernels)
        if steps is not None and dequantize_before(node.inputs[0]) is not None:
            quantize_kernel(node, steps)


def _integer_steps(node: "ir.Node", kernels: KernelSteps) -> np.ndarray | None:
    """The steps of an operator's kernel, if it was fake-quantized in a way that TensorRT has integer kernels for."""
    return steps_of(node, kernels) if node.op_type in WEIGHTED - {"ConvTranspose"} else None


def _join_pairs(graph: "ir.Graph") -> None:
    """What tf2onnx has moved between a QuantizeLinear and its DequantizeLinear goes behind the two."""
    moved = True
    while moved:
        moved = False
        for node in list(graph):
            source = producer(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
            if source is None or source.op_type not in MOVING or only_consumer(source.outputs[0]) is None:
                continue
            _swap(source, node)
            moved = True


def _swap(first: "ir.Node", second: "ir.Node") -> None:
    """Two operators, one of which takes nothing but the other's output, in the opposite order."""
    hand_over(second.outputs[0], first.outputs[0])
    second.replace_input_with(0, first.inputs[0])
    first.replace_input_with(0, second.outputs[0])
    first.prepend(second)


def _mirror(graph: "ir.Graph") -> None:
    """Ranges become symmetric about zero, in signed integers."""
    made: dict[tuple[ir.Value | None, ...], ir.Value] = {}
    zero_point = constant(np.array(0, np.int8))  # left out, it would mean unsigned integers
    for node in graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        node.attributes.pop("axis", None)  # of no meaning for one scale, and out of bounds in places
        key = tuple(node.inputs[1:])
        if key not in made:
            scale, zero = (number(value) for value in key)
            made[key] = constant(np.array(scale * max(zero, 255 - zero) / STEPS, np.float32))
        node.replace_input_with(1, made[key])
        node.replace_input_with(2, zero_point)


def _lower_ceilings(graph: "ir.Graph") -> None:
    """A Relu with a ceiling becomes one without, if every range behind it ends there: TensorRT fuses that one."""
    for node in graph:
        if node.op_type != "Clip" or len(node.inputs) < 3 or node.outputs[0].is_graph_output():
            continue
        least, most = map(array, node.inputs[1:3])
        consumers = node.outputs[0].consumers()
        if least is None or most is None or float(least.item()) != 0 or not consumers:
            continue
        ends = [number(each.inputs[1]) * STEPS for each in consumers if each.op_type == "QuantizeLinear"]
        # below what rounding to steps decides
        if len(ends) == len(consumers) and max(ends) <= float(most.item()) * (1 + 1e-3):
            node.op_type = "Relu"
            node.resize_inputs(1)


def _activate_early(graph: "ir.Graph") -> None:
    """An activation goes in front of what only reshapes its values, to stand directly behind what computes them."""
    moved = True
    while moved:
        moved = False
        for node in list(graph):
            source = producer(node.inputs[0]) if node.op_type in ELEMENTWISE else None
            if source is None or source.op_type not in SHAPING or only_consumer(source.outputs[0]) is None:
                continue
            if dequantize_before(source.inputs[0]) is None:
                _swap(source, node)
                moved = True


def _drop_unused_ranges(graph: "ir.Graph", kernels: KernelSteps) -> None:
    """Leaves out every pair whose integers no kernel would take."""
    for node in reversed(list(graph)):
        source = producer(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        if source is None or source.op_type != "QuantizeLinear":
            continue
        if not _reaches_kernel(node, kernels):
            alone = only_consumer(source.outputs[0]) is node
            _bypass_pair(node, source.inputs[0])
            if alone:
                graph.remove(source, safe=True)


def _reaches_kernel(node: "ir.Node", kernels: KernelSteps) -> bool:
    """Whether integers go on to an operator with a kernel, through others with integers on both sides."""
    waiting, seen = [node.outputs[0]], {node.outputs[0]}
    while waiting:
        value = waiting.pop()
        for consumer in value.consumers():
            if consumer.graph is not node.graph:
                continue
            if consumer.inputs[0] is value and _integer_steps(consumer, kernels) is not None:
                return True
            output = consumer.outputs[0]
            together = consumer.op_type in UNWEIGHTED and all(map(_comes_from_range, consumer.inputs))
            after = only_consumer(output) if together else None
            if after is not None and after.op_type in ELEMENTWISE:  # becomes part of the same kernel
                output = after.outputs[0]
            passing = consumer.op_type in MOVING | {"QuantizeLinear", "DequantizeLinear"}
            if (passing or together) and output not in seen:
                seen.add(output)
                waiting.append(output)
    return False


def _comes_from_range(value: "ir.Value | None") -> bool:
    """Whether a value comes out of a range, moved on its way or not."""
    source = _origin(value)
    return source is not None and source.op_type == "DequantizeLinear"


def _origin(value: "ir.Value | None") -> "ir.Node | None":
    """The operator that a tensor's values are from, before they were moved."""
    source = producer(value)
    while source is not None and source.op_type in MOVING:
        source = producer(source.inputs[0])
    return source


def _bypass_pair(node: "ir.Node", value: "ir.Value") -> None:
    """Takes the end of a pair out; an Identity stays in its place where a model's output would be another one too."""
    if node.outputs[0].is_graph_output() and (producer(value) is None or value.is_graph_output()):
        node.op_type = "Identity"
        node.resize_inputs(1)
        node.replace_input_with(0, value)
    else:
        bypass(node, value)


def _free_last_addends(graph: "ir.Graph", kernels: KernelSteps) -> None:
    """Of an Add's two sides, the output of the kernel that runs last comes as it is, without a range of its own."""
    order = {node: place for place, node in enumerate(graph)}
    for node in graph:
        if node.op_type != "Add":
            continue
        places = {}
        for place, value in enumerate(node.inputs):
            pair = dequantize_before(value)
            source = producer(pair.inputs[0]) if pair is not None else None
            kernel = producer(source.inputs[0]) if source is not None else None
            if source is None or kernel is None or _integer_steps(kernel, kernels) is None:
                continue
            if only_consumer(value) is node and only_consumer(kernel.outputs[0]) is source:
                places[order[kernel]] = (place, kernel.outputs[0])
        if places and all(map(_comes_from_range, node.inputs)):
            node.replace_input_with(*places[max(places)])


def _insert_ranges_in_front(graph: "ir.Graph") -> None:
    """What takes integers that were moved on their way gets them from a pair directly in front of it."""
    pairs: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if node.op_type not in WEIGHTED | UNWEIGHTED:
            continue
        for place, value in enumerate(node.inputs[:1] if node.op_type in WEIGHTED else node.inputs):
            source = _origin(value)
            if source is None or source.op_type != "DequantizeLinear" or source.outputs[0] is value:
                continue
            if value not in pairs:
                pair = range_like(source, value, node.name)
                node.prepend(pair)
                pairs[value] = pair[1].outputs[0]
            node.replace_input_with(place, pairs[value])


def _insert_ranges_behind(graph: "ir.Graph") -> None:
    """An operator whose values are moved before they are quantized has a pair directly behind it."""
    for node in list(graph):
        first = producer(node.inputs[0]) if node.op_type == "QuantizeLinear" else None
        if first is None or first.op_type not in MOVING:
            continue
        source = producer(first.inputs[0])
        while source is not None and source.op_type in MOVING:
            first, source = source, producer(source.inputs[0])
        if source is not None and source.op_type in WEIGHTED | UNWEIGHTED | ELEMENTWISE:
            pair = range_like(node, first.inputs[0], source.name)
            first.prepend(pair)
            first.replace_input_with(0, pair[1].outputs[0])
