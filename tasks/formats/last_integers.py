"""The last integers that a file computes, made visible.

A softmax in float may differ in its last bit from one processor to the next, as each computes the exponential in its
own way. What integer kernels hand to it may not, and that can be checked only where it is an output.

What is made an output is what the integers mean, in float: a multiplication that is the same everywhere. Were it the
integers, ONNX Runtime would leave a MatMul before them in float.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.contract.artifact import Target
from tasks.formats.tflite.graph import codes, packed

if TYPE_CHECKING:
    import onnx

# Kernels of ONNX Runtime in float that compute the same on every processor: they add or multiply once, choose, or move.
# The others sum up in an order of their own, or compute an exponential in a way of their own.
SINGLE = frozenset({"Abs", "Add", "Clip", "Div", "Max", "MaxPool", "Min", "Mul", "Neg", "Relu", "Sub"})
MOVING = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Shape", "Slice", "Split", "Squeeze"}
).union({"DepthToSpace", "NhwcMaxPool", "Tile", "Transpose", "Unsqueeze", "Where"})
TABLES = frozenset({"QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"})  # made or computed in float


@dataclass(frozen=True)
class Visible:
    """A file whose last integers are outputs.

    model: its bytes, the file's own unless outputs were added behind those that it had. scales: the outputs that stand
    for integers, by their number, and how much a step of each is; empty if the file has no integers.
    """

    model: bytes
    scales: dict[int, float]


def onnx_visible(model: bytes) -> Visible:
    """An ONNX file with its last integers visible."""
    import onnx as library
    from onnx import numpy_helper

    proto = library.load_from_string(model)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    last, _ = _behind(proto)
    outputs = [output.name for output in proto.graph.output]
    more = [node.output[0] for node in last if node.output[0] not in outputs]
    outputs += more
    scales = {outputs.index(node.output[0]): float(numpy_helper.to_array(constants[node.input[1]])) for node in last}
    if not more:
        return Visible(model, scales)
    proto.graph.output.extend(library.ValueInfoProto(name=name) for name in more)
    return Visible(proto.SerializeToString(), scales)


def floats_between(model: bytes, kernels: Mapping[str, int]) -> list[str]:
    """The float kernels in an ONNX file before its last integers that may differ between processors in the last bit.

    A last bit may become a step when the value is rounded to one.

    Args:
        model: the file's bytes.
        kernels: what ONNX Runtime runs of it, as the audit counts them.

    """
    import onnx as library

    _, behind = _behind(library.load_from_string(model))
    before = Counter(kernels) - behind
    known = SINGLE | MOVING
    return [name for name in before if name in TABLES or not (name in known or name.startswith(("Q", "Dequantize")))]


def _behind(proto: "onnx.ModelProto") -> tuple[list["onnx.NodeProto"], Counter[str]]:
    """The last operators before each output that turn integers into what they mean, and the operators behind them."""
    givers = {name: node for node in proto.graph.node for name in node.output}
    last: list[onnx.NodeProto] = []
    behind: Counter[str] = Counter()
    queue = [output.name for output in proto.graph.output]
    for name in queue:  # which grows
        node = givers.get(name)
        if node is None:
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in givers:  # not of a constant
            last.append(node)
        else:
            behind[node.op_type] += 1
            queue += [name for name in node.input if name not in queue]
    return last, behind


def tflite_visible(model: bytes) -> Visible:
    """A TFLite file with its last integers visible."""
    from ai_edge_litert import schema_py_generated as schema

    proto = schema.ModelT.InitFromPackedBuf(model)
    (graph,), numbers = proto.subgraphs, codes(proto)
    givers = {int(index): operator for operator in graph.operators for index in operator.outputs}
    outputs = [int(index) for index in graph.outputs]
    scales = {
        number: 1.0 for number, index in enumerate(outputs) if graph.tensors[index].type == schema.TensorType.INT8
    }
    queue = [index for number, index in enumerate(outputs) if number not in scales]
    for index in queue:  # which grows
        operator = givers.get(index)
        if operator is None:
            continue
        taken = [int(tensor) for tensor in operator.inputs if tensor >= 0]
        if numbers[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE and taken[0] in givers:
            if index not in outputs:
                outputs.append(index)
            scales[outputs.index(index)] = float(graph.tensors[taken[0]].quantization.scale[0])
        else:
            queue += [tensor for tensor in taken if tensor not in queue]
    if len(outputs) == len(graph.outputs):
        return Visible(model, scales)
    for signature in proto.signatureDefs or ():  # it counts the outputs, and knows the inputs by their names
        for number in range(len(graph.outputs), len(outputs)):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"integers_{number}", outputs[number]
            signature.outputs.append(entry)
    graph.outputs = outputs
    return Visible(packed(proto, len(model)), scales)


VISIBLE: dict[Target, Callable[[bytes], Visible]] = {"onnxruntime": onnx_visible, "litert": tflite_visible}
