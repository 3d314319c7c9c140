"""TensorRT's rules for files with integers, checked in the file alone: nothing is run, and no GPU is needed.

What the parser refuses is from onnx-tensorrt's `docs/operators.md` (TensorRT 10.15) and its importer of QuantizeLinear
and DequantizeLinear. Where integers run is from NVIDIA's TensorRT documentation, Inference Library, Explicit
Quantization: "TensorRT Processing of Q/DQ Networks", "Q/DQ Layer-Placement Recommendations" and "Q/DQ Limitations".
The engine builder measures kernels and may still choose otherwise, so what follows from here is a prediction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.formats.onnx.bodies import nodes_within, taken

if TYPE_CHECKING:
    import onnx

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})  # operators with a kernel that can be in integers
UNWEIGHTED = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul", "Sub"})  # integers in and out
ELEMENTWISE = frozenset(
    {"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"}
)
# "A layer commutes with quantization if Q(Op(x)) = Op(Q(x))": what only picks or moves values. TensorRT moves Q and DQ
# over these.
COMMUTING = frozenset(
    {
        *("Flatten", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "ReduceMax", "Reshape", "Slice", "Squeeze"),
        *("Transpose", "Unsqueeze"),
    }
)
OPSETS = range(13, 25)  # scales by channel came with 13; the parser takes opsets up to 24
# The operators of opset 17 with an N in the parser's list.
UNPARSED = frozenset(
    {
        *("Bernoulli", "BitShift", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "Det"),
        *("DynamicQuantizeLinear", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial"),
        *("NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement", "QLinearConv"),
        *("QLinearMatMul", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        *("SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringNormalizer"),
        *("TfIdfVectorizer", "Unique"),
    }
)

Cost = Literal["refused", "float", "accuracy", "time"]


@dataclass(frozen=True)
class Finding:
    """A rule that a file does not keep."""

    node: str  # the operator's name in the file
    costs: Cost  # the whole file; integers in this operator; its accuracy; a fusion, so a further pass over memory
    text: str  # what is wrong there


class Wiring:
    """Which nodes take which tensors, in a file that is only read."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.givers = {name: node for node in self.nodes for name in node.output}
        self.outputs = {value.name for value in model.graph.output}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in taken(node):
                self._takers.setdefault(name, []).append(node)

    def takers(self, tensor: str) -> "list[onnx.NodeProto]":
        """The nodes that take a tensor."""
        return self._takers.get(tensor, [])

    def only_taker(self, tensor: str) -> "onnx.NodeProto | None":
        """The node that takes a tensor, if it is one alone and the tensor does not leave the model."""
        takers = self.takers(tensor)
        return takers[0] if len(takers) == 1 and tensor not in self.outputs else None

    def ancestors(self, tensor: str) -> "list[onnx.NodeProto]":
        """The nodes that a tensor is made by."""
        nodes: dict[int, onnx.NodeProto] = {}
        waiting = [tensor]
        while waiting:
            node = self.givers.get(waiting.pop())
            if node is not None and id(node) not in nodes:
                nodes[id(node)] = node
                waiting += node.input
        return list(nodes.values())

    def range_of(self, tensor: str) -> "onnx.NodeProto | None":
        """The DequantizeLinear that a tensor comes out of, directly or over operators that commute with it."""
        giver = self.givers.get(tensor)
        while giver is not None and giver.op_type in COMMUTING:
            giver = self.givers.get(giver.input[0])
        return giver if giver is not None and giver.op_type == "DequantizeLinear" else None

    def goes_to_ranges(self, tensor: str) -> bool:
        """Whether all who take a tensor quantize it, after an activation or an operator that commutes at most."""
        takers = self.takers(tensor)
        return bool(takers) and tensor not in self.outputs and all(map(self._quantizes, takers))

    def _quantizes(self, node: "onnx.NodeProto") -> bool:
        passing = node.op_type in COMMUTING | ELEMENTWISE
        return node.op_type == "QuantizeLinear" or (passing and self.goes_to_ranges(node.output[0]))


def check(model: "onnx.ModelProto") -> tuple[Finding, ...]:
    """Every rule that a file does not keep, in the order of its operators. A file without integers keeps them all."""
    wiring = Wiring(model)
    nodes = nodes_within(wiring.nodes)
    return (*_versions(model), *(finding for node in nodes for finding in _check_node(wiring, node)))


def runs_in_integers(wiring: Wiring, node: "onnx.NodeProto") -> bool:
    """Whether an operator with a kernel has integers on both sides, so that TensorRT has an integer kernel for it."""
    if node.op_type not in WEIGHTED or _input_range(wiring, node) is None or _dequantized_kernel(wiring, node) is None:
        return False
    return all(finding.costs not in ("refused", "float") for finding in _check_node(wiring, node))


def _check_node(wiring: Wiring, node: "onnx.NodeProto") -> Iterator[Finding]:
    if node.op_type in UNPARSED or node.domain not in ("", "ai.onnx"):
        yield Finding(node.name, "refused", f"TensorRT's parser does not take the operator {node.op_type}")
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _check_numbers(wiring, node)
        yield from _check_use(wiring, node)
    elif node.op_type in WEIGHTED:
        yield from _check_weighted(wiring, node)
    elif node.op_type in UNWEIGHTED:
        yield from _check_unweighted(wiring, node)
    elif node.op_type in ELEMENTWISE:
        yield from _check_fusion(wiring, node, node.input[0])


def _versions(model: "onnx.ModelProto") -> Iterator[Finding]:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version not in OPSETS:
            yield Finding("", "refused", f"opset {opset.version} is outside {OPSETS[0]} to {OPSETS[-1]}")


def _check_numbers(wiring: Wiring, node: "onnx.NodeProto") -> Iterator[Finding]:
    """What the parser asserts of scales and zero points."""
    scale = wiring.constants.get(node.input[1])
    zero = wiring.constants.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)  # ONNX's default
    if scale is None or zero is None:
        yield Finding(node.name, "refused", "its scale and zero point are no constants")
        return
    if zero.dtype != np.int8:
        yield Finding(node.name, "refused", f"its integers are {zero.dtype}; TensorRT's are int8")
    if zero.any():
        yield Finding(node.name, "refused", f"its zero point is {zero.flat[np.flatnonzero(zero)[0]]}; it has to be 0")
    if not np.all(scale > 0):
        yield Finding(node.name, "refused", "a scale of it is not above 0")
    if scale.size == 1:
        return
    kernel = wiring.constants.get(node.input[0])
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    if kernel is None:
        yield Finding(node.name, "refused", "it has a scale for each channel; activations take one for the tensor")
    elif kernel.shape[axis] != scale.size:
        yield Finding(
            node.name, "refused", f"it has {scale.size} scales for {kernel.shape[axis]} channels along axis {axis}"
        )


def _check_use(wiring: Wiring, node: "onnx.NodeProto") -> Iterator[Finding]:
    """Recommendation 6, "be conservative": integers that nobody computes with are rounding and work for nothing."""
    if node.op_type == "DequantizeLinear" and node.input[0] not in wiring.constants:
        users = _users(wiring, node.output[0])
        if not any(user in WEIGHTED | UNWEIGHTED for user in users):
            yield Finding(node.name, "time", "no operator behind it computes in integers")


def _users(wiring: Wiring, tensor: str) -> Iterator[str]:
    """The kinds of operators that take a tensor, looking past those that commute."""
    for taker in wiring.takers(tensor):
        if taker.op_type in COMMUTING:
            yield from _users(wiring, taker.output[0])
        elif taker.op_type == "QuantizeLinear":  # the same range again behind what moved the values
            yield from (kind for after in wiring.takers(taker.output[0]) for kind in _users(wiring, after.output[0]))
        else:
            yield taker.op_type


def _input_range(wiring: Wiring, node: "onnx.NodeProto") -> "onnx.NodeProto | None":
    return wiring.range_of(node.input[0])


def _dequantized_kernel(wiring: Wiring, node: "onnx.NodeProto") -> "onnx.NodeProto | None":
    giver = wiring.givers.get(node.input[1])
    return giver if giver is not None and giver.op_type == "DequantizeLinear" else None


def _check_weighted(wiring: Wiring, node: "onnx.NodeProto") -> Iterator[Finding]:
    """Recommendations 1 and 7: both inputs of a weighted operator are quantized, its kernel by channel."""
    source, kernel = _input_range(wiring, node), _dequantized_kernel(wiring, node)
    if source is None and kernel is None:
        return
    if source is None or kernel is None:
        other, one = ("what it takes", "its kernel") if source is None else ("its kernel", "what it takes")
        yield Finding(node.name, "float", f"{other} is not held to 8 bits, and {one} is: TensorRT needs both")
        return
    for dequantize in (source, kernel):
        for finding in _check_numbers(wiring, dequantize):
            yield Finding(node.name, "float", finding.text)
    scales, steps = wiring.constants.get(kernel.input[1]), wiring.constants.get(kernel.input[0])
    if scales is None or steps is None:
        yield Finding(node.name, "float", "its kernel is not constant")
        return
    # of a ConvTranspose these are the input channels, and TensorRT wants it so (NVIDIA/TensorRT issue 2380)
    axis = 0 if node.op_type in ("Conv", "ConvTranspose") or _attribute(node, "transB", 0) else 1
    if scales.size > 1 and _attribute(kernel, "axis", 1) % steps.ndim != axis:
        yield Finding(
            node.name,
            "float",
            f"its kernel's scales stand along axis {_attribute(kernel, 'axis', 1)}, TensorRT takes them along {axis}",
        )
    elif scales.size == 1 and steps.shape[axis] > 1:
        yield Finding(
            node.name,
            "accuracy",
            f"its kernel has one scale for {steps.shape[axis]} channels: give each its own",
        )
    bias = wiring.givers.get(node.input[2]) if len(node.input) > 2 else None
    if bias is not None and bias.op_type == "DequantizeLinear":
        yield Finding(node.name, "float", "its bias is given in integers: leave it in float")


def _attribute(node: "onnx.NodeProto", name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _check_unweighted(wiring: Wiring, node: "onnx.NodeProto") -> Iterator[Finding]:
    """Recommendations 4 and 5: integers in and out, or floats in and out."""
    inputs = [name for name in node.input if name not in wiring.constants]
    with_range = [wiring.range_of(name) is not None for name in inputs]
    if not any(with_range) or len(inputs) < len(node.input):  # with a constant it is part of a float layer
        return
    goes_to_range = wiring.goes_to_ranges(node.output[0])
    if all(with_range) and not goes_to_range:
        yield Finding(node.name, "float", "it takes integers and gives floats: quantize what it gives as well")
    if node.op_type != "Add":
        if goes_to_range and not all(with_range):
            yield Finding(node.name, "float", "it takes integers on one side and floats on another: quantize both")
        return
    free = [name for name, known in zip(inputs, with_range, strict=True) if not known]
    for name in free:
        kernel = wiring.givers.get(name)
        if kernel is None or kernel.op_type not in WEIGHTED or wiring.only_taker(name) is not node:
            yield Finding(
                node.name, "float", "one side of it is held to 8 bits, the other is not: quantize the skip connection"
            )
    if not free and inputs:
        fusible = [finding for name in inputs for finding in _check_fusion(wiring, node, name)]
        yield from fusible[:1]


def _check_fusion(wiring: Wiring, node: "onnx.NodeProto", tensor: str) -> Iterator[Finding]:
    """Recommendations 2 and 3: nothing between a kernel and what TensorRT makes one with it."""
    pair = wiring.givers.get(tensor)
    source = wiring.givers.get(pair.input[0]) if pair is not None and pair.op_type == "DequantizeLinear" else None
    kernel = wiring.givers.get(source.input[0]) if source is not None else None
    if pair is None or source is None or kernel is None or kernel.op_type not in WEIGHTED:
        return
    alone = wiring.only_taker(kernel.output[0]) is source and wiring.only_taker(tensor) is node
    if alone:
        text = f"a range stands between {kernel.name} and it: the two cannot become one kernel"
        yield Finding(node.name, "time", text)
