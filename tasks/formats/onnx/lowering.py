"""From fake quantization to the form whose operators ONNX Runtime runs in integers, all of them.

tf2onnx makes a QuantizeLinear and a DequantizeLinear for each range and leaves the rest in float: kernels, biases, and
tensors on both sides of what moves values. ONNX Runtime's optimiser replaces an operator by its integer kernel only
where each of its inputs comes out of a DequantizeLinear and its output goes into a QuantizeLinear
(onnxruntime/core/optimizer/qdq_transformer). `lower` brings the graph into that shape without changing a value:

- kernels become signed 8-bit numbers with a scale for each output channel, exactly the steps that they were quantized
  in (`pair_rule` says how large those are, and why this cannot saturate);
- biases become 32-bit numbers in the units of the accumulator, input scale times kernel scale;
- MatMul and the Add behind it become one Gemm, whose integer kernel takes a bias;
- operators that move values get the range of what they move on their other side too;
- a Relu in front of a range that starts at zero goes, and so does the rescaling of raw inputs in front of a range.

A layer that is to stay in float needs a hand too: the optimiser rounds every float kernel whose input comes out of a
DequantizeLinear to 8 bits, with one scale for all channels (weight_bias_quantization.cc).
"""

from typing import TYPE_CHECKING

import numpy as np

from tasks.formats.onnx.graph import OnnxGraph
from tasks.quantization.kernel_steps import KernelSteps
from tasks.quantization.saturation import convolution_rows

if TYPE_CHECKING:
    import onnx

MOVING = frozenset(
    {"Flatten", "GlobalMaxPool", "MaxPool", "Pad", "ReduceMax", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


def lower(graph: OnnxGraph, kernels: KernelSteps) -> None:
    """Rewrites a graph that tf2onnx made of a frozen fake-quantized model, in place; `kernels` are that model's."""
    join_biases(graph)
    join_channel_biases(graph)
    fold_padding(graph)
    _drop_clipping(graph)
    fold_rescaling(graph)
    _carry_down(graph)
    _carry_up(graph)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            graph.drop_attribute(node, "axis")  # of no meaning for one scale, and out of bounds in places
    for node in list(graph.nodes):
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            _kernel_to_integers(graph, node, kernels)
            _keep_float(graph, node)


def join_biases(graph: OnnxGraph) -> None:
    """MatMul and Add to Gemm, also where a Reshape stands between them, as behind a Dense on more than vectors."""
    for node in list(graph.nodes):
        kernel = graph.constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if kernel is None or kernel.ndim != 2:
            continue
        reshape = None
        after = graph.only_taker(node.output[0])
        if after is not None and after.op_type == "Reshape":
            reshape, after = after, graph.only_taker(after.output[0])
        bias = _added(graph, after, kernel.shape[1])
        if reshape is not None and bias is None:
            continue
        if graph.ranks.get(node.input[0]) != 2:
            continue
        node.op_type = "Gemm"
        if bias is not None:
            assert after is not None
            node.input.append(graph.constant(bias))
            graph.replace(after.output[0], (reshape or node).output[0])
            graph.remove(after)


def join_channel_biases(graph: OnnxGraph) -> None:
    """Conv and the Add behind it to one Conv, also where a Squeeze stands between them, as in a Conv1D."""
    for node in list(graph.nodes):
        kernel = graph.constants.get(node.input[1]) if node.op_type == "Conv" and len(node.input) == 2 else None
        squeeze = graph.only_taker(node.output[0])
        after = graph.only_taker(squeeze.output[0]) if squeeze is not None and squeeze.op_type == "Squeeze" else None
        bias = _added(graph, after, kernel.shape[0]) if kernel is not None else None
        if after is None or squeeze is None or bias is None:
            continue
        number = next(graph.constants[name] for name in after.input if name in graph.constants)
        if number.ndim > 1 and number.shape[-2] == bias.size:  # channels, and one place after them
            node.input.append(graph.constant(bias))
            graph.replace(after.output[0], squeeze.output[0])
            graph.remove(after)


def _added(graph: OnnxGraph, node: "onnx.NodeProto | None", count: int) -> np.ndarray | None:
    """The bias `(count,)` that an Add adds, if that is what it does."""
    if node is None or node.op_type != "Add":
        return None
    constants = [graph.constants[name] for name in node.input if name in graph.constants]
    return constants[0].reshape(-1) if len(constants) == 1 and constants[0].size == count else None


def fold_padding(graph: OnnxGraph) -> None:
    """Zero padding in front of a convolution becomes the convolution's own."""
    for node in list(graph.nodes):
        after = graph.only_taker(node.output[0]) if node.op_type == "Pad" else None
        if after is None or after.op_type != "Conv" or graph.attribute(after, "auto_pad", b"NOTSET") != b"NOTSET":
            continue
        value = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(())
        pads = graph.constants.get(node.input[1])
        if pads is None or value.any() or graph.attribute(node, "mode", b"constant") != b"constant":
            continue
        spatial = len(pads) // 2 - 2
        if spatial < 1 or pads[:2].any() or pads[spatial + 2 : spatial + 4].any():
            continue
        own = graph.attribute(after, "pads", [0] * (2 * spatial))
        whole = [*pads[2 : spatial + 2], *pads[spatial + 4 :]]
        graph.set_attribute(after, "pads", [int(a + b) for a, b in zip(own, whole, strict=True)])
        graph.replace(node.output[0], node.input[0])
        graph.remove(node)


def _drop_clipping(graph: OnnxGraph) -> None:
    """A Relu, with or without ceiling, whose every taker clips to a range inside it anyway."""
    for node in list(graph.nodes):
        if node.op_type not in ("Relu", "Clip") or node.output[0] in graph.outputs:
            continue
        least, most = 0.0, np.inf
        if node.op_type == "Clip":
            bounds = [graph.constants.get(name) if name else None for name in [*node.input[1:], "", ""][:2]]
            if any(bound is None for bound in bounds):
                continue
            least, most = (float(bound) for bound in bounds)  # type: ignore[arg-type]
        takers = graph.takers(node.output[0])
        if takers and all(_within(graph, taker, least, most) for taker in takers):
            graph.replace(node.output[0], node.input[0])
            graph.remove(node)


def _within(graph: OnnxGraph, node: "onnx.NodeProto", least: float, most: float) -> bool:
    if node.op_type != "QuantizeLinear":
        return False
    scale, zero = float(graph.constants[node.input[1]]), int(graph.constants[node.input[2]])
    tolerance = scale / 100  # a step's hundredth is below what rounding to steps decides
    return -zero * scale >= least - tolerance and (255 - zero) * scale <= most + tolerance


def fold_rescaling(graph: OnnxGraph, most: int = 255) -> None:
    """Mul and Add of one number in front of a range go into its scale and zero point, where there is room for them.

    Args:
        graph: rewritten in place.
        most: the largest zero point that can be; the smallest is 0.

    """
    for node in list(graph.nodes):
        if node.op_type != "QuantizeLinear" or graph.only_taker(node.input[0]) is None:
            continue
        scale, zero = float(graph.constants[node.input[1]]), int(graph.constants[node.input[2]])
        source, factor, offset = node.input[0], 1.0, 0.0  # what is quantized is factor * source + offset
        while (step := graph.giver(source)) is not None and step.op_type in ("Mul", "Add", "Sub"):
            number = graph.constants.get(step.input[1])
            if number is None or number.size != 1:
                break
            amount = float(number.reshape(()))
            if step.op_type == "Mul":
                factor *= amount
            else:
                offset += factor * amount * (1 if step.op_type == "Add" else -1)
            source = step.input[0]
        moved = zero + offset / scale
        off = abs(moved - round(moved))
        if source != node.input[0] and factor > 0 and off < 0.01 and 0 <= round(moved) <= most:
            node.input[0] = source
            node.input[1] = graph.constant(np.array(scale / factor, np.float32))
            node.input[2] = graph.constant(np.array(round(moved), graph.constants[node.input[2]].dtype))


def dequantize_before(graph: OnnxGraph, tensor: str) -> "onnx.NodeProto | None":
    """The DequantizeLinear that a tensor comes out of, if it comes out of one."""
    giver = graph.giver(tensor)
    return giver if giver is not None and giver.op_type == "DequantizeLinear" else None


def insert_range(graph: OnnxGraph, tensor: str, parameters: list[str], at: int, name: str) -> str:
    """Put a QuantizeLinear and a DequantizeLinear behind a tensor; the name of the one that comes out."""
    steps = graph.insert("QuantizeLinear", [tensor, *parameters], at=at, name=name)
    return graph.insert("DequantizeLinear", [steps, *parameters], at=at + 1, name=name)


def _carry_down(graph: OnnxGraph) -> None:
    """What moves values of a quantized tensor gets the same range behind it."""
    for node in list(graph.nodes):
        source = dequantize_before(graph, node.input[0]) if node.op_type in MOVING else None
        takers = graph.takers(node.output[0])
        if source is None or node.output[0] in graph.outputs or all(t.op_type == "QuantizeLinear" for t in takers):
            continue
        at = graph.place(node) + 1
        ranged = insert_range(graph, node.output[0], list(source.input[1:]), at, node.name)
        graph.replace(node.output[0], ranged, start=at + 1)


def _carry_up(graph: OnnxGraph) -> None:
    """A range behind what moves values stands in front of it too."""
    for node in reversed(list(graph.nodes)):
        after = graph.only_taker(node.output[0]) if node.op_type in MOVING else None
        if after is None or after.op_type != "QuantizeLinear" or dequantize_before(graph, node.input[0]) is not None:
            continue
        node.input[0] = insert_range(graph, node.input[0], list(after.input[1:]), graph.place(node), node.name)


def _kernel_to_integers(graph: OnnxGraph, node: "onnx.NodeProto", kernels: KernelSteps) -> None:
    """A kernel's and its bias' numbers as integers, if what they meet is in integers."""
    source = dequantize_before(graph, node.input[0])
    kernel = graph.constants.get(node.input[1])
    after = graph.only_taker(node.output[0])
    if source is None or kernel is None or after is None or after.op_type != "QuantizeLinear":
        return
    if node.op_type == "ConvTranspose" and graph.attribute(node, "group", 1) != 1:
        return
    steps = steps_of(graph, node, kernels)
    if steps is None:  # a layer that is to stay in float, between quantized tensors
        return
    input_scale = float(graph.constants[source.input[1]])
    bias = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    # a kernel of next to nothing must not push its bias out of 32 bits
    scales = quantize_kernel(graph, node, steps, 0.0 if bias is None else np.abs(bias) / (input_scale * 2.0**30))
    if bias is not None:
        units = (np.float32(input_scale) * scales).astype(np.float32)
        counts = np.rint(bias / units.astype(np.float64)).astype(np.int32)
        inputs = [graph.constant(counts), graph.constant(units), graph.constant(np.zeros(units.shape, np.int32))]
        node.input[2] = graph.insert("DequantizeLinear", inputs, at=graph.place(node), name=node.name, axis=0)


def _keep_float(graph: OnnxGraph, node: "onnx.NodeProto") -> None:
    """An operator whose kernel is still in float takes its input by channel, which the optimiser leaves alone."""
    source, kernel = dequantize_before(graph, node.input[0]), graph.constants.get(node.input[1])
    if source is None or kernel is None or node.op_type == "MatMul":
        return
    inward = 1 if node.op_type == "Conv" or graph.attribute(node, "transB", 0) else 0
    channels = (
        kernel.shape[inward] * graph.attribute(node, "group", 1) if node.op_type == "Conv" else kernel.shape[inward]
    )
    whole = [graph.constant(np.repeat(graph.constants[name], channels)) for name in source.input[1:]]
    node.input[0] = graph.insert(
        "DequantizeLinear", [source.input[0], *whole], at=graph.place(node), name=node.name, axis=1
    )


def quantize_kernel(
    graph: OnnxGraph, node: "onnx.NodeProto", steps: np.ndarray, least: np.ndarray | float = 0.0
) -> np.ndarray:
    """Make an operator's kernel signed 8-bit numbers with a scale for each output channel.

    Args:
        graph: rewritten in place.
        node: Conv, ConvTranspose without groups, Gemm or MatMul, whose kernel is a constant in float32.
        steps: the size of each channel's steps, from `steps_of`, `(channels,)`.
        least: the smallest that a channel's scale may be.

    Returns:
        The scales, `(channels,)`.

    """
    kernel = graph.constants[node.input[1]]
    axis = 0 if node.op_type == "Conv" or graph.attribute(node, "transB", 0) else 1
    by_channel = tuple(-1 if place == axis else 1 for place in range(kernel.ndim))
    some = kernel.any(axis=tuple(place for place in range(kernel.ndim) if place != axis))
    scales = np.maximum(np.where(some, steps, 0.0), least).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))
    numbers = np.rint(kernel / scales.reshape(by_channel)).astype(np.int8)
    inputs = [graph.constant(numbers), graph.constant(scales), graph.constant(np.zeros(scales.shape, np.int8))]
    node.input[1] = graph.insert("DequantizeLinear", inputs, at=graph.place(node), name=node.name, axis=axis)
    return scales


def steps_of(graph: OnnxGraph, node: "onnx.NodeProto", kernels: KernelSteps) -> np.ndarray | None:
    """The size of the steps that an operator's kernel was fake-quantized in, `(channels,)`; none if it was not."""
    kernel = graph.constants.get(node.input[1])
    if kernel is None or (node.op_type in ("Gemm", "MatMul") and kernel.ndim != 2):
        return None
    return kernels.of(rows_of(kernel, node.op_type, transposed=bool(graph.attribute(node, "transB", 0))))


def rows_of(kernel: np.ndarray, operator: str, *, transposed: bool = False) -> np.ndarray:
    """A kernel as ONNX has it as `(places * input channels, channels)`, in the order in which kernels take them.

    Args:
        kernel: of two axes for Gemm and MatMul.
        operator: Conv, ConvTranspose, Gemm or MatMul.
        transposed: whether Gemm takes it the other way round.

    """
    if operator == "ConvTranspose":  # (input channels, output channels, *places)
        kernel = np.swapaxes(kernel, 0, 1)
    if operator.startswith("Conv"):
        return convolution_rows(kernel)
    return kernel.T if transposed else kernel
