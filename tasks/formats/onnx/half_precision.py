"""An ONNX file in half precision, in which ids stay whole numbers: float16 counts by twos from 2,048 on."""

from typing import TYPE_CHECKING

from tasks.formats.onnx.bodies import in_running_order, move_inside, retake
from tasks.formats.tensorrt.rules import Wiring

if TYPE_CHECKING:
    import onnx

# Behind these a value is what the model computed, and no longer an id of the input.
COMPUTED = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "GRU", "Gemm", "If", "LSTM", "Loop", "MatMul", "MatMulInteger", "QGemm"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)


def half(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """Half the bits in kernels and between operators, by ONNX Runtime's own tool."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    whole = [node.name for node in _making_ids(Wiring(proto))]
    halved: onnx.ModelProto = convert_float_to_float16(proto, keep_io_types=True, node_block_list=whole)
    _undo_round_trips(halved.graph)
    move_inside(halved.graph)  # it puts all casts at the end of the outermost graph, which the checker refuses
    in_running_order(halved.graph)
    return halved


def _making_ids(wiring: Wiring) -> "list[onnx.NodeProto]":
    """The operators that whole numbers are made by, of inputs that come in float, before anything is computed."""
    from onnx import TensorProto, helper

    nodes: dict[int, onnx.NodeProto] = {}
    whole = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}
    for node in wiring.nodes:
        if node.op_type != "Cast" or helper.get_node_attr_value(node, "to") not in whole:
            continue
        before = [node, *wiring.ancestors(node.input[0])]
        if not any(step.op_type in COMPUTED for step in before):
            nodes |= {id(step): step for step in before}
    return list(nodes.values())


def _undo_round_trips(graph: "onnx.GraphProto") -> None:
    """What is cast to half precision and back is taken as it was before."""
    from onnx import TensorProto, helper

    def casts(to: int) -> "list[onnx.NodeProto]":
        return [node for node in graph.node if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == to]

    before = {node.output[0]: node.input[0] for node in casts(TensorProto.FLOAT16)}
    same = {node.output[0]: before[node.input[0]] for node in casts(TensorProto.FLOAT) if node.input[0] in before}
    kept = {value.name for value in graph.output}
    for node in graph.node:
        retake(node, same)
    for node in [node for node in casts(TensorProto.FLOAT) if node.output[0] in set(same) - kept]:
        graph.node.remove(node)
