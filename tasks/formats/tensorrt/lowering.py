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

from tasks.formats.onnx.graph import OnnxGraph
from tasks.formats.onnx.lowering import (
    MOVING,
    dequantize_before,
    fold_padding,
    fold_rescaling,
    insert_range,
    join_biases,
    join_channel_biases,
    quantize_kernel,
    steps_of,
)
from tasks.formats.tensorrt.rules import ELEMENTWISE, UNWEIGHTED, WEIGHTED
from tasks.quantization.kernel_steps import KernelSteps

if TYPE_CHECKING:
    import onnx

STEPS = 127  # on each side of zero
SHAPING = MOVING - {"GlobalMaxPool", "MaxPool", "Pad", "ReduceMax"}  # the same values under other indices


def lower(graph: OnnxGraph, kernels: KernelSteps) -> None:
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
    for node in list(graph.nodes):
        steps = _integer_steps(graph, node, kernels)
        if steps is not None and dequantize_before(graph, node.input[0]) is not None:
            quantize_kernel(graph, node, steps)


def _integer_steps(graph: OnnxGraph, node: "onnx.NodeProto", kernels: KernelSteps) -> np.ndarray | None:
    """The steps of an operator's kernel, if it was fake-quantized in a way that TensorRT has integer kernels for."""
    return steps_of(graph, node, kernels) if node.op_type in WEIGHTED - {"ConvTranspose"} else None


def _join_pairs(graph: OnnxGraph) -> None:
    """What tf2onnx has moved between a QuantizeLinear and its DequantizeLinear goes behind the two."""
    moved = True
    while moved:
        moved = False
        for node in list(graph.nodes):
            source = graph.giver(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if source is None or source.op_type not in MOVING or graph.only_taker(source.output[0]) is None:
                continue
            _swap(graph, source, node)
            moved = True


def _swap(graph: OnnxGraph, first: "onnx.NodeProto", second: "onnx.NodeProto") -> None:
    """Two operators, one of which takes nothing but the other's output, in the opposite order."""
    between, after = first.output[0], second.output[0]
    second.input[0], second.output[0] = first.input[0], between
    first.input[0], first.output[0] = between, after
    at, behind = graph.place(first), graph.place(second)
    graph.nodes[at], graph.nodes[behind] = second, first


def _mirror(graph: OnnxGraph) -> None:
    """Ranges become symmetric about zero, in signed integers."""
    made: dict[tuple[str, str], tuple[str, str]] = {}
    zero_point = graph.constant(np.array(0, np.int8))  # left out, it would mean unsigned integers
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        graph.drop_attribute(node, "axis")  # of no meaning for one scale, and out of bounds in places
        key = (node.input[1], node.input[2])
        if key not in made:
            scale, zero = float(graph.constants[key[0]]), int(graph.constants[key[1]])
            made[key] = (graph.constant(np.array(scale * max(zero, 255 - zero) / STEPS, np.float32)), zero_point)
        node.input[1], node.input[2] = made[key]


def _lower_ceilings(graph: OnnxGraph) -> None:
    """A Relu with a ceiling becomes one without, if every range behind it ends there: TensorRT fuses that one."""
    for node in graph.nodes:
        if node.op_type != "Clip" or len(node.input) < 3 or node.output[0] in graph.outputs:
            continue
        least, most = (graph.constants.get(name) for name in node.input[1:3])
        takers = graph.takers(node.output[0])
        if least is None or most is None or float(least) != 0 or not takers:
            continue
        ends = [float(graph.constants[t.input[1]]) * STEPS for t in takers if t.op_type == "QuantizeLinear"]
        if len(ends) == len(takers) and max(ends) <= float(most) * (1 + 1e-3):  # below what rounding to steps decides
            node.op_type = "Relu"
            del node.input[1:]


def _activate_early(graph: OnnxGraph) -> None:
    """An activation goes in front of what only reshapes its values, to stand directly behind what computes them."""
    moved = True
    while moved:
        moved = False
        for node in list(graph.nodes):
            source = graph.giver(node.input[0]) if node.op_type in ELEMENTWISE else None
            if source is None or source.op_type not in SHAPING or graph.only_taker(source.output[0]) is None:
                continue
            if dequantize_before(graph, source.input[0]) is None:
                _swap(graph, source, node)
                moved = True


def _drop_unused_ranges(graph: OnnxGraph, kernels: KernelSteps) -> None:
    """Leaves out every pair whose integers no kernel would take."""
    for node in reversed(list(graph.nodes)):
        source = graph.giver(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None or source.op_type != "QuantizeLinear":
            continue
        if not _reaches_kernel(graph, node.output[0], kernels):
            floats = source.input[0]
            if graph.only_taker(source.output[0]) is node:
                graph.remove(source)
            _bypass(graph, node, floats)


def _reaches_kernel(graph: OnnxGraph, tensor: str, kernels: KernelSteps) -> bool:
    """Whether integers go on to an operator with a kernel, through others with integers on both sides."""
    for taker in graph.takers(tensor):
        if taker.input[0] == tensor and _integer_steps(graph, taker, kernels) is not None:
            return True
        output = taker.output[0]
        together = taker.op_type in UNWEIGHTED and all(_comes_from_range(graph, name) for name in taker.input)
        after = graph.only_taker(output) if together else None
        if after is not None and after.op_type in ELEMENTWISE:  # becomes part of the same kernel
            output = after.output[0]
        passing = taker.op_type in MOVING | {"QuantizeLinear", "DequantizeLinear"}
        if (passing or together) and _reaches_kernel(graph, output, kernels):
            return True
    return False


def _comes_from_range(graph: OnnxGraph, tensor: str) -> bool:
    """Whether a tensor comes out of a range, moved on its way or not."""
    source = _origin(graph, tensor)
    return source is not None and source.op_type == "DequantizeLinear"


def _origin(graph: OnnxGraph, tensor: str) -> "onnx.NodeProto | None":
    """The operator that a tensor's values are from, before they were moved."""
    source = graph.giver(tensor)
    while source is not None and source.op_type in MOVING:
        source = graph.giver(source.input[0])
    return source


def _bypass(graph: OnnxGraph, node: "onnx.NodeProto", tensor: str) -> None:
    """Takes the end of a pair out; a model's output keeps its name."""
    source = graph.giver(tensor)
    if node.output[0] not in graph.outputs:
        graph.replace(node.output[0], tensor)
        graph.remove(node)
    elif source is None or tensor in graph.outputs:
        node.op_type = "Identity"
        del node.input[1:]
        node.input[0] = tensor
    else:
        source.output[list(source.output).index(tensor)] = node.output[0]
        graph.replace(tensor, node.output[0])
        graph.remove(node)


def _free_last_addends(graph: OnnxGraph, kernels: KernelSteps) -> None:
    """Of an Add's two sides, the output of the kernel that runs last comes as it is, without a range of its own."""
    for node in graph.nodes:
        if node.op_type != "Add":
            continue
        places = {}
        for place, tensor in enumerate(node.input):
            pair = dequantize_before(graph, tensor)
            source = graph.giver(pair.input[0]) if pair is not None else None
            kernel = graph.giver(source.input[0]) if source is not None else None
            if source is None or kernel is None or _integer_steps(graph, kernel, kernels) is None:
                continue
            if graph.only_taker(tensor) is node and graph.only_taker(kernel.output[0]) is source:
                places[graph.place(kernel)] = (place, kernel.output[0])
        if places and all(_comes_from_range(graph, tensor) for tensor in node.input):
            place, output = places[max(places)]
            node.input[place] = output


def _insert_ranges_in_front(graph: OnnxGraph) -> None:
    """What takes integers that were moved on their way gets them from a pair directly in front of it."""
    pairs: dict[str, str] = {}
    for node in list(graph.nodes):
        if node.op_type not in WEIGHTED | UNWEIGHTED:
            continue
        for place, tensor in enumerate(node.input[:1] if node.op_type in WEIGHTED else node.input):
            source = _origin(graph, tensor)
            if source is None or source.op_type != "DequantizeLinear" or source.output[0] == tensor:
                continue
            if tensor not in pairs:
                pairs[tensor] = insert_range(graph, tensor, list(source.input[1:]), graph.place(node), node.name)
            node.input[place] = pairs[tensor]


def _insert_ranges_behind(graph: OnnxGraph) -> None:
    """An operator whose values are moved before they are quantized has a pair directly behind it."""
    for node in list(graph.nodes):
        first = graph.giver(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if first is None or first.op_type not in MOVING:
            continue
        source = graph.giver(first.input[0])
        while source is not None and source.op_type in MOVING:
            first, source = source, graph.giver(source.input[0])
        if source is not None and source.op_type in WEIGHTED | UNWEIGHTED | ELEMENTWISE:
            first.input[0] = insert_range(graph, first.input[0], list(node.input[1:]), graph.place(first), source.name)
