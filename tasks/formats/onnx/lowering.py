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

from tasks.formats.onnx.graph import (
    append_input,
    array,
    bypass,
    constant,
    constant_array,
    dequantize_before,
    insert_before,
    number,
    only_consumer,
    producer,
)
from tasks.quantization.kernel_steps import KernelSteps
from tasks.quantization.saturation import convolution_rows
from tasks.quantization.stored_weights import counts, steps, stored

if TYPE_CHECKING:
    import onnx_ir as ir

MOVING = frozenset(
    {"Flatten", "GlobalMaxPool", "MaxPool", "Pad", "ReduceMax", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
# Which inputs of operators are weights that may be stored in 8 bits; a loop takes those of its body along.
STORED = {
    "Conv": slice(1, 2),
    "Gemm": slice(1, 2),
    "GRU": slice(1, 3),
    "LSTM": slice(1, 3),
    "Loop": slice(2, None),
    "MatMul": slice(0, 2),
    "RNN": slice(1, 3),
}


def lower(graph: "ir.Graph", kernels: KernelSteps) -> None:
    """Rewrites a graph that tf2onnx made of a frozen fake-quantized model, in place; `kernels` are that model's."""
    join_biases(graph)
    join_channel_biases(graph)
    fold_padding(graph)
    _drop_clipping(graph)
    fold_rescaling(graph)
    _carry_down(graph)
    _carry_up(graph)
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.attributes.pop("axis", None)  # of no meaning for one scale, and out of bounds in places
    for node in list(graph):
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            _kernel_to_integers(node, kernels)
            _keep_float(node)
        if node.op_type == "Gather":
            _table_to_integers(node)
    _store_weights(graph)


def join_biases(graph: "ir.Graph") -> None:
    """MatMul and Add to Gemm, also where a Reshape stands between them, as behind a Dense on more than vectors."""
    for node in list(graph):
        kernel = array(node.inputs[1]) if node.op_type == "MatMul" else None
        if kernel is None or kernel.ndim != 2:
            continue
        reshape = None
        after = only_consumer(node.outputs[0])
        if after is not None and after.op_type == "Reshape":
            reshape, after = after, only_consumer(after.outputs[0])
        bias = _added(after, kernel.shape[1])
        if reshape is not None and bias is None:
            continue
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is None or len(shape) != 2:
            continue
        node.op_type = "Gemm"
        if bias is not None:
            assert after is not None
            append_input(node, constant(bias))
            bypass(after, (reshape or node).outputs[0])


def join_channel_biases(graph: "ir.Graph") -> None:
    """Conv and the Add behind it to one Conv, also where a Squeeze stands between them, as in a Conv1D."""
    for node in list(graph):
        kernel = array(node.inputs[1]) if node.op_type == "Conv" and len(node.inputs) == 2 else None
        squeeze = only_consumer(node.outputs[0])
        after = only_consumer(squeeze.outputs[0]) if squeeze is not None and squeeze.op_type == "Squeeze" else None
        bias = _added(after, kernel.shape[0]) if kernel is not None else None
        if after is None or squeeze is None or bias is None:
            continue
        numbers = next(numbers for numbers in map(array, after.inputs) if numbers is not None)
        if numbers.ndim > 1 and numbers.shape[-2] == bias.size:  # channels, and one place after them
            append_input(node, constant(bias))
            bypass(after, squeeze.outputs[0])


def _added(node: "ir.Node | None", count: int) -> np.ndarray | None:
    """The bias `(count,)` that an Add adds, if that is what it does."""
    if node is None or node.op_type != "Add":
        return None
    constants = [numbers for numbers in map(array, node.inputs) if numbers is not None]
    return constants[0].reshape(-1) if len(constants) == 1 and constants[0].size == count else None


def fold_padding(graph: "ir.Graph") -> None:
    """Zero padding in front of a convolution becomes the convolution's own."""
    import onnx_ir as ir

    for node in list(graph):
        after = only_consumer(node.outputs[0]) if node.op_type == "Pad" else None
        if after is None or after.op_type != "Conv" or after.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        value = array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(())
        pads = array(node.inputs[1])
        if pads is None or value is None or value.any():
            continue
        if node.attributes.get_string("mode", "constant") != "constant":
            continue
        spatial = len(pads) // 2 - 2
        if spatial < 1 or pads[:2].any() or pads[spatial + 2 : spatial + 4].any():
            continue
        own = after.attributes.get_ints("pads", [0] * (2 * spatial))
        whole = [*pads[2 : spatial + 2], *pads[spatial + 4 :]]
        after.attributes.pop("pads", None)
        after.attributes.add(ir.AttrInt64s("pads", [int(a + b) for a, b in zip(own, whole, strict=True)]))
        bypass(node, node.inputs[0])


def _drop_clipping(graph: "ir.Graph") -> None:
    """A Relu, with or without ceiling, whose every consumer clips to a range inside it anyway."""
    for node in list(graph):
        if node.op_type not in ("Relu", "Clip") or node.outputs[0].is_graph_output():
            continue
        least, most = 0.0, np.inf
        if node.op_type == "Clip":
            bounds = [*node.inputs[1:], None, None][:2]
            if any(array(value) is None for value in bounds):
                continue
            least, most = map(number, bounds)
        consumers = node.outputs[0].consumers()
        if consumers and all(_within(consumer, least, most) for consumer in consumers):
            bypass(node, node.inputs[0])


def _within(node: "ir.Node", least: float, most: float) -> bool:
    if node.op_type != "QuantizeLinear":
        return False
    scale, zero = number(node.inputs[1]), int(number(node.inputs[2]))
    tolerance = scale / 100  # a step's hundredth is below what rounding to steps decides
    return -zero * scale >= least - tolerance and (255 - zero) * scale <= most + tolerance


def fold_rescaling(graph: "ir.Graph", most: int = 255) -> None:
    """Mul and Add of one number in front of a range go into its scale and zero point, where there is room for them.

    Args:
        graph: rewritten in place.
        most: the largest zero point that can be; the smallest is 0.

    """
    for node in list(graph):
        if node.op_type != "QuantizeLinear" or only_consumer(node.inputs[0]) is None:
            continue
        scale, zero = number(node.inputs[1]), int(number(node.inputs[2]))
        source, factor, offset = node.inputs[0], 1.0, 0.0  # what is quantized is factor * source + offset
        while (step := producer(source)) is not None and step.op_type in ("Mul", "Add", "Sub"):
            numbers = array(step.inputs[1])
            if numbers is None or numbers.size != 1:
                break
            amount = float(numbers.item())
            if step.op_type == "Mul":
                factor *= amount
            else:
                offset += factor * amount * (1 if step.op_type == "Add" else -1)
            source = step.inputs[0]
        moved = zero + offset / scale
        off = abs(moved - round(moved))
        if source is not node.inputs[0] and factor > 0 and off < 0.01 and 0 <= round(moved) <= most:
            node.replace_input_with(0, source)
            node.replace_input_with(1, constant(np.array(scale / factor, np.float32)))
            node.replace_input_with(2, constant(np.array(round(moved), constant_array(node.inputs[2]).dtype)))


def range_like(other: "ir.Node", value: "ir.Value | None", name: str | None) -> "list[ir.Node]":
    """A QuantizeLinear and a DequantizeLinear of a value, with the scale and zero point of another one."""
    import onnx_ir as ir

    quantize = ir.node("QuantizeLinear", [value, *other.inputs[1:]], name=name)
    return [quantize, ir.node("DequantizeLinear", [quantize.outputs[0], *other.inputs[1:]], name=name)]


def _carry_down(graph: "ir.Graph") -> None:
    """What moves values of a quantized tensor gets the same range behind it."""
    for node in list(graph):
        source = dequantize_before(node.inputs[0]) if node.op_type in MOVING else None
        output = node.outputs[0]
        uses = output.uses()
        if source is None or output.is_graph_output() or all(use.node.op_type == "QuantizeLinear" for use in uses):
            continue
        pair = range_like(source, output, node.name)
        node.append(pair)
        for use in uses:
            use.node.replace_input_with(use.idx, pair[1].outputs[0])


def _carry_up(graph: "ir.Graph") -> None:
    """A range behind what moves values stands in front of it too."""
    for node in reversed(list(graph)):
        after = only_consumer(node.outputs[0]) if node.op_type in MOVING else None
        if after is None or after.op_type != "QuantizeLinear" or dequantize_before(node.inputs[0]) is not None:
            continue
        pair = range_like(after, node.inputs[0], node.name)
        node.prepend(pair)
        node.replace_input_with(0, pair[1].outputs[0])


def _kernel_to_integers(node: "ir.Node", kernels: KernelSteps) -> None:
    """A kernel's and its bias' numbers as integers, if what they meet is in integers."""
    source = dequantize_before(node.inputs[0])
    after = only_consumer(node.outputs[0])
    if source is None or after is None or after.op_type != "QuantizeLinear":
        return
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) != 1:
        return
    steps = steps_of(node, kernels)
    if steps is None:  # a layer that is to stay in float, between quantized tensors
        return
    input_scale = number(source.inputs[1])
    bias = array(node.inputs[2]) if len(node.inputs) > 2 else None
    # a kernel of next to nothing must not push its bias out of 32 bits
    scales = quantize_kernel(node, steps, 0.0 if bias is None else np.abs(bias) / (input_scale * 2.0**30))
    if bias is not None:
        units = (np.float32(input_scale) * scales).astype(np.float32)
        counts = np.rint(bias / units.astype(np.float64)).astype(np.int32)
        inputs = [constant(counts), constant(units), constant(np.zeros(units.shape, np.int32))]
        node.replace_input_with(2, insert_before(node, "DequantizeLinear", inputs, axis=0))


def _table_to_integers(node: "ir.Node") -> None:
    """An embedding's rows are looked up as integers, and only those that are found become floats."""
    import onnx_ir as ir

    table = array(node.inputs[0])
    numbers = counts(table) if table is not None and node.attributes.get_int("axis", 0) == 0 else None
    if table is None or numbers is None:
        return
    lookup = ir.node("Gather", [constant(numbers), node.inputs[1]], name=node.name)
    floats, sized = _in_floats(lookup.outputs[0], steps(table).reshape(()), node.name)
    node.prepend([lookup, floats, sized])
    sized.outputs[0].type, sized.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    bypass(node, sized.outputs[0])


def _in_floats(numbers: "ir.Value", sizes: np.ndarray, name: str | None) -> "tuple[ir.Node, ir.Node]":
    """Whole numbers times their steps. A DequantizeLinear is another matter to ONNX Runtime.

    Of a constant it computes that with each call, and the product once; and it ends the process where it moves one on
    to what a loop takes.
    """
    import onnx_ir as ir

    floats = ir.node("Cast", [numbers], {"to": ir.DataType.FLOAT}, name=name)
    return floats, ir.node("Mul", [floats.outputs[0], constant(sizes)], name=name)


def _store_weights(graph: "ir.Graph") -> None:
    """Weights of operators without integer kernels, in the bodies of loops too, become floats when a file is opened."""
    import onnx_ir as ir

    floats: dict[ir.Value, ir.Value] = {}
    made: list[ir.Node] = []
    for node in list(graph.all_nodes()):
        for place in range(len(node.inputs))[STORED.get(node.op_type, slice(0))]:
            value = node.inputs[place]
            numbers = array(value)
            if value is None or numbers is None:
                continue
            if value not in floats and (parts := stored(numbers, joint=True)) is not None:
                made += _in_floats(constant(parts[0]), parts[1], node.name)
                floats[value] = made[-1].outputs[0]
                floats[value].type, floats[value].shape = value.type, value.shape
            if value in floats:
                node.replace_input_with(place, floats[value])
    if made:
        graph.insert_before(graph[0], made)


def _keep_float(node: "ir.Node") -> None:
    """An operator whose kernel is still in float takes its input by channel, which the optimiser leaves alone."""
    source, kernel = dequantize_before(node.inputs[0]), array(node.inputs[1])
    if source is None or kernel is None or node.op_type == "MatMul":
        return
    inward = 1 if node.op_type == "Conv" or node.attributes.get_int("transB", 0) else 0
    groups = node.attributes.get_int("group", 1) if node.op_type == "Conv" else 1
    channels = kernel.shape[inward] * groups
    whole = [constant(np.repeat(constant_array(value), channels)) for value in source.inputs[1:]]
    node.replace_input_with(0, insert_before(node, "DequantizeLinear", [source.inputs[0], *whole], axis=1))


def quantize_kernel(node: "ir.Node", steps: np.ndarray, least: np.ndarray | float = 0.0) -> np.ndarray:
    """Make an operator's kernel signed 8-bit numbers with a scale for each output channel, in place.

    Args:
        node: Conv, ConvTranspose without groups, Gemm or MatMul, whose kernel is a constant in float32.
        steps: the size of each channel's steps, from `steps_of`, `(channels,)`.
        least: the smallest that a channel's scale may be.

    Returns:
        The scales, `(channels,)`.

    """
    kernel = constant_array(node.inputs[1])
    axis = 0 if node.op_type == "Conv" or node.attributes.get_int("transB", 0) else 1
    by_channel = tuple(-1 if place == axis else 1 for place in range(kernel.ndim))
    some = kernel.any(axis=tuple(place for place in range(kernel.ndim) if place != axis))
    scales = np.maximum(np.where(some, steps, 0.0), least).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))
    numbers = np.rint(kernel / scales.reshape(by_channel)).astype(np.int8)
    inputs = [constant(numbers), constant(scales), constant(np.zeros(scales.shape, np.int8))]
    node.replace_input_with(1, insert_before(node, "DequantizeLinear", inputs, axis=axis))
    return scales


def steps_of(node: "ir.Node", kernels: KernelSteps) -> np.ndarray | None:
    """The size of the steps that an operator's kernel was fake-quantized in, `(channels,)`; none if it was not."""
    kernel = array(node.inputs[1])
    if kernel is None or (node.op_type in ("Gemm", "MatMul") and kernel.ndim != 2):
        return None
    return kernels.of(rows_of(kernel, node.op_type, transposed=bool(node.attributes.get_int("transB", 0))))


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
