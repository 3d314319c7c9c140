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

from tasks.formats.onnx.graph import array, dequantize_before, only_consumer, producer

if TYPE_CHECKING:
    import onnx_ir as ir

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


def range_of(value: "ir.Value | None") -> "ir.Node | None":
    """The DequantizeLinear that a value comes out of, directly or over operators that commute with it."""
    source = producer(value)
    while source is not None and source.op_type in COMMUTING:
        source = producer(source.inputs[0])
    return source if source is not None and source.op_type == "DequantizeLinear" else None


def _goes_to_ranges(value: "ir.Value") -> bool:
    """Whether all who take a value quantize it, after an activation or an operator that commutes at most."""
    consumers = value.consumers()
    return bool(consumers) and not value.is_graph_output() and all(map(_quantizes, consumers))


def _quantizes(node: "ir.Node") -> bool:
    passing = node.op_type in COMMUTING | ELEMENTWISE
    return node.op_type == "QuantizeLinear" or (passing and _goes_to_ranges(node.outputs[0]))


def check(model: "ir.Model") -> tuple[Finding, ...]:
    """Every rule that a file does not keep, in the order of its operators. A file without integers keeps them all."""
    return (*_versions(model), *(finding for node in model.graph.all_nodes() for finding in _check_node(node)))


def runs_in_integers(node: "ir.Node") -> bool:
    """Whether an operator with a kernel has integers on both sides, so that TensorRT has an integer kernel for it."""
    if node.op_type not in WEIGHTED or range_of(node.inputs[0]) is None or dequantize_before(node.inputs[1]) is None:
        return False
    return all(finding.costs not in ("refused", "float") for finding in _check_node(node))


def _check_node(node: "ir.Node") -> Iterator[Finding]:
    if node.op_type in UNPARSED or node.domain not in ("", "ai.onnx"):
        yield Finding(node.name, "refused", f"TensorRT's parser does not take the operator {node.op_type}")
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _check_numbers(node)
        yield from _check_use(node)
    elif node.op_type in WEIGHTED:
        yield from _check_weighted(node)
    elif node.op_type in UNWEIGHTED:
        yield from _check_unweighted(node)
    elif node.op_type in ELEMENTWISE:
        yield from _check_fusion(node, node.inputs[0])


def _versions(model: "ir.Model") -> Iterator[Finding]:
    for domain, version in model.opset_imports.items():
        if domain in ("", "ai.onnx") and version not in OPSETS:
            yield Finding("", "refused", f"opset {version} is outside {OPSETS[0]} to {OPSETS[-1]}")


def _check_numbers(node: "ir.Node") -> Iterator[Finding]:
    """What the parser asserts of scales and zero points."""
    scale = array(node.inputs[1])
    zero = array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)  # ONNX's default
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
    kernel = array(node.inputs[0])
    axis = node.attributes.get_int("axis", 1)
    if kernel is None:
        yield Finding(node.name, "refused", "it has a scale for each channel; activations take one for the tensor")
    elif kernel.shape[axis] != scale.size:
        yield Finding(
            node.name, "refused", f"it has {scale.size} scales for {kernel.shape[axis]} channels along axis {axis}"
        )


def _check_use(node: "ir.Node") -> Iterator[Finding]:
    """Recommendation 6, "be conservative": integers that nobody computes with are rounding and work for nothing."""
    if node.op_type == "DequantizeLinear" and array(node.inputs[0]) is None:
        users = _users(node.outputs[0])
        if not any(user in WEIGHTED | UNWEIGHTED for user in users):
            yield Finding(node.name, "time", "no operator behind it computes in integers")


def _users(value: "ir.Value") -> Iterator[str]:
    """The kinds of operators that take a value, looking past those that commute."""
    for consumer in value.consumers():
        if consumer.op_type in COMMUTING:
            yield from _users(consumer.outputs[0])
        elif consumer.op_type == "QuantizeLinear":  # the same range again behind what moved the values
            yield from (kind for after in consumer.outputs[0].consumers() for kind in _users(after.outputs[0]))
        else:
            yield consumer.op_type


def _check_weighted(node: "ir.Node") -> Iterator[Finding]:
    """Recommendations 1 and 7: both inputs of a weighted operator are quantized, its kernel by channel."""
    source, kernel = range_of(node.inputs[0]), dequantize_before(node.inputs[1])
    if source is None and kernel is None:
        return
    if source is None or kernel is None:
        other, one = ("what it takes", "its kernel") if source is None else ("its kernel", "what it takes")
        yield Finding(node.name, "float", f"{other} is not held to 8 bits, and {one} is: TensorRT needs both")
        return
    for dequantize in (source, kernel):
        for finding in _check_numbers(dequantize):
            yield Finding(node.name, "float", finding.text)
    scales, steps = array(kernel.inputs[1]), array(kernel.inputs[0])
    if scales is None or steps is None:
        yield Finding(node.name, "float", "its kernel is not constant")
        return
    # of a ConvTranspose these are the input channels, and TensorRT wants it so (NVIDIA/TensorRT issue 2380)
    axis = 0 if node.op_type in ("Conv", "ConvTranspose") or node.attributes.get_int("transB", 0) else 1
    along = kernel.attributes.get_int("axis", 1)
    if scales.size > 1 and along % steps.ndim != axis:
        yield Finding(
            node.name, "float", f"its kernel's scales stand along axis {along}, TensorRT takes them along {axis}"
        )
    elif scales.size == 1 and steps.shape[axis] > 1:
        yield Finding(
            node.name,
            "accuracy",
            f"its kernel has one scale for {steps.shape[axis]} channels: give each its own",
        )
    bias = producer(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.op_type == "DequantizeLinear":
        yield Finding(node.name, "float", "its bias is given in integers: leave it in float")


def _check_unweighted(node: "ir.Node") -> Iterator[Finding]:
    """Recommendations 4 and 5: integers in and out, or floats in and out."""
    inputs = [value for value in node.inputs if array(value) is None]
    with_range = [range_of(value) is not None for value in inputs]
    if not any(with_range) or len(inputs) < len(node.inputs):  # with a constant it is part of a float layer
        return
    goes_to_range = _goes_to_ranges(node.outputs[0])
    if all(with_range) and not goes_to_range:
        yield Finding(node.name, "float", "it takes integers and gives floats: quantize what it gives as well")
    if node.op_type != "Add":
        if goes_to_range and not all(with_range):
            yield Finding(node.name, "float", "it takes integers on one side and floats on another: quantize both")
        return
    free = [value for value, known in zip(inputs, with_range, strict=True) if not known]
    for value in free:
        kernel = producer(value)
        if kernel is None or kernel.op_type not in WEIGHTED or only_consumer(value) is not node:
            yield Finding(
                node.name, "float", "one side of it is held to 8 bits, the other is not: quantize the skip connection"
            )
    if not free and inputs:
        fusible = [finding for value in inputs for finding in _check_fusion(node, value)]
        yield from fusible[:1]


def _check_fusion(node: "ir.Node", value: "ir.Value | None") -> Iterator[Finding]:
    """Recommendations 2 and 3: nothing between a kernel and what TensorRT makes one with it."""
    pair = dequantize_before(value)
    source = producer(pair.inputs[0]) if pair is not None else None
    kernel = producer(source.inputs[0]) if source is not None else None
    if pair is None or source is None or kernel is None or kernel.op_type not in WEIGHTED:
        return
    alone = only_consumer(kernel.outputs[0]) is source and only_consumer(value) is node
    if alone:
        text = f"a range stands between {kernel.name} and it: the two cannot become one kernel"
        yield Finding(node.name, "time", text)
