"""Which operators of an ONNX file can saturate on an x86 processor without VNNI, whether this is one, and the way out.

`quantization.saturation` says which weights can. What kernel they meet is known from the file alone. It was read in
ONNX Runtime's source (core/providers/cpu/quantization, contrib_ops/cpu/quantization,
core/optimizer/qdq_transformer) and compared with its answers on an emulated Haswell, for each of these:

- Only int8 weights that meet unsigned activations: a file's signed activations become unsigned where they stand between
  a QuantizeLinear and a DequantizeLinear, and stay signed in the operators that are integers themselves. Signed by
  signed, unsigned by unsigned, and ConvInteger, whose kernel is on the other side, are exact.
- QLinearConv in one, two and three dimensions and in groups, QLinearMatMul, QGemm, MatMulInteger,
  MatMulIntegerToFloat, DynamicQuantizeMatMul and DynamicQuantizeLSTM; and what becomes one of them: Conv, Gemm and
  MatMul between DequantizeLinear. Transposed convolutions run in float.
- Two activations: the second becomes unsigned if nobody else takes what was quantized, else any number may come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.formats.audit import saturation_note
from tasks.formats.onnx.graph import array, constant, constant_array, only_consumer, producer
from tasks.formats.tensorrt.rules import COMMUTING, range_of
from tasks.quantization.saturation import LIMIT, convolution_saturates, matrix_saturates

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators that are integers themselves: where their weights are, the weights' zero point, and that of what they take.
INTEGERS = {
    "QLinearConv": (3, 5, 2),
    "QLinearMatMul": (3, 5, 2),
    "QGemm": (3, 5, 2),
    "MatMulInteger": (1, 3, 2),
    "MatMulIntegerToFloat": (1, 5, 4),
}
QUANTIZING = {"DynamicQuantizeMatMul": ((1, 3),), "DynamicQuantizeLSTM": ((1, 9), (2, 11))}  # what they take: unsigned
QUANTIZED = frozenset({"Conv", "Gemm", "MatMul"})  # become integers between DequantizeLinear


@dataclass(frozen=True)
class Weights:
    """Signed weights that meet unsigned activations in an operator.

    holder: the operator, or the DequantizeLinear in front of it. place, zero: of its inputs, the weights and their zero
    point. steps: the numbers; none if they come in a run.
    """

    operator: "ir.Node"
    holder: "ir.Node"
    place: int
    zero: int
    steps: np.ndarray | None


def saturating(model: "ir.Model") -> frozenset[str]:
    """The operators that can saturate, by name."""
    return frozenset(weights.operator.name for weights in _risks(model.clone()))


def layers(file: Path) -> tuple[str, ...]:
    """The layers of a file that can saturate, by the names that they have in Keras, in the file's order."""
    import onnx_ir as ir

    names = (weights.operator.name.split("/")[0] for weights in _risks(ir.load(file)))
    return tuple(dict.fromkeys(names))


def unsigned(file: Path) -> bytes | None:
    """The file with unsigned weights where signed ones can saturate, for processors where they do; none if none can.

    The same integers, by kernels that are slower. ONNX Runtime's own way there, `session.x64quantprecision`, turns all
    weights of a file, and refuses files with two operators that share theirs or with signed activations. Weights that
    come in a run stay what they are, here as there.
    """
    import onnx_ir as ir

    model = ir.load(file)
    # each once, where several operators share a holder
    risks = {(weights.holder, weights.place): weights for weights in _risks(model) if weights.steps is not None}
    for (holder, place), weights in risks.items():
        name = holder.inputs[place].name
        holder.resize_inputs(max(weights.zero + 1, len(holder.inputs)))
        zero = array(holder.inputs[weights.zero])
        if zero is None:  # it is zero then, and has the scale's shape in a DequantizeLinear
            by_channel = holder.op_type == "DequantizeLinear"
            zero = np.zeros(holder.inputs[1].shape.numpy() if by_channel else (), np.int8)
        for at, numbers in ((place, constant_array(holder.inputs[place])), (weights.zero, zero)):
            shifted = constant((numbers.astype(np.int16) + 128).astype(np.uint8))
            shifted.name = f"{name}/unsigned/{len(model.graph.initializers)}"
            model.graph.initializers.add(shifted)
            holder.replace_input_with(at, shifted)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content if risks else None


@cache
def processor_saturates() -> bool:
    """Whether ONNX Runtime saturates here, asked once: 255 * 127 + 255 * 127 is 64,770, and 16 bits hold 32,767."""
    import onnx
    import onnxruntime

    taken = onnx.helper.make_tensor_value_info("taken", onnx.TensorProto.UINT8, [1, 2])
    output = onnx.helper.make_tensor_value_info("output", onnx.TensorProto.INT32, [1, 1])
    weights = onnx.numpy_helper.from_array(np.full((2, 1), 127, np.int8), "weights")
    node = onnx.helper.make_node("MatMulInteger", ["taken", "weights"], ["output"])
    opset = onnx.helper.make_opsetid("", 10)  # the one that MatMulInteger came with
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "pair", [taken], [output], [weights]), opset_imports=[opset], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"taken": np.full((1, 2), 255, np.uint8)})
    return int(answer.item()) != 2 * 255 * 127


def note_here(file: str, layers: Sequence[str]) -> str:
    """What people read here of a file whose layers of these names can saturate; nothing of one without any."""
    return saturation_note(file, layers, here=processor_saturates()) if layers else ""


def _risks(model: "ir.Model") -> Iterator[Weights]:
    """The weights of each operator that can saturate, in the file's order: all of them, as they are of one type.

    The model is given the types of its tensors.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    for node in model.graph:
        met = list(_met(node))
        if any(weights.steps is None or _saturates(node, weights.steps) for weights in met):
            yield from met


def _met(node: "ir.Node") -> Iterator[Weights]:
    """The signed weights that unsigned activations meet in an operator."""

    def stored(holder: "ir.Node", place: int, zero: int) -> Iterator[Weights]:
        if _signed(holder.inputs[place]):
            yield Weights(node, holder, place, zero, array(holder.inputs[place]))

    if node.op_type in INTEGERS:
        place, zero, offset = INTEGERS[node.op_type]
        if not _signed(node.inputs[0]) and not (len(node.inputs) > offset and _signed(node.inputs[offset])):
            yield from stored(node, place, zero)
    for place, zero in QUANTIZING.get(node.op_type, ()):
        yield from stored(node, place, zero)
    if node.op_type not in QUANTIZED or range_of(node.inputs[0]) is None:
        return
    source = range_of(node.inputs[1])
    if source is None:
        return
    quantize = producer(source.inputs[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        yield from stored(source, 0, 2)
        return
    alone = only_consumer(quantize.outputs[0]) is not None and only_consumer(source.outputs[0]) is not None
    if not alone and _signed(quantize.outputs[0]):
        yield Weights(node, source, 0, 2, None)


def _signed(value: "ir.Value | None") -> bool:
    """Whether a tensor is int8, as far as the file shows."""
    import onnx_ir as ir

    return value is not None and value.dtype == ir.DataType.INT8


def _saturates(node: "ir.Node", steps: np.ndarray) -> bool:
    source = producer(node.inputs[1])
    if node.op_type in QUANTIZED and source is not None and source.op_type in COMMUTING:
        return bool(np.abs(steps.astype(np.int16)).max(initial=0) > LIMIT // 2)  # moved first: any two may meet
    if node.op_type in ("Conv", "QLinearConv"):
        return convolution_saturates(steps, node.attributes.get_int("group", 1))
    return matrix_saturates(steps.T if node.attributes.get_int("transB", 0) else steps)
