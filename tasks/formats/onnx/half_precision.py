"""An ONNX file in half precision, in which ids stay whole numbers: float16 counts by twos from 2,048 on."""

from typing import TYPE_CHECKING

from tasks.formats.onnx.graph import ancestors, producer, sort_by_need
from tasks.formats.onnx.names import forget_shapes, subgraph_protos

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Behind these a value is what the model computed, and no longer an id of the input.
COMPUTED = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "GRU", "Gemm", "If", "LSTM", "Loop", "MatMul", "MatMulInteger", "QGemm"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)


def half(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """Half the bits in kernels and between operators, by ONNX Runtime's own tool."""
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    whole = [node.name for node in _making_ids(ir.from_proto(proto).graph)]
    halved = convert_float_to_float16(proto, keep_io_types=True, node_block_list=whole)
    _move_inside(halved.graph)
    model = ir.from_proto(halved)
    _undo_round_trips(model.graph)
    for graph in model.graphs():
        sort_by_need(graph)
        forget_shapes(graph)
    return ir.to_proto(model)


def _making_ids(graph: "ir.Graph") -> "list[ir.Node]":
    """The operators that whole numbers are made by, of inputs that come in float, before anything is computed."""
    import onnx_ir as ir

    nodes: dict[ir.Node, None] = {}
    for node in graph:
        if node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()).is_integer():
            before = [node, *ancestors(node.inputs[0])]
            if not any(step.op_type in COMPUTED for step in before):
                nodes |= dict.fromkeys(before)
    return list(nodes)


def _move_inside(graph: "onnx.GraphProto") -> None:
    """Puts each operator of a graph into the subgraph that has the tensor which it takes first; in place.

    The tool puts all casts at the end of the outermost graph, which the checker refuses. No two tensors of a file have
    one name here.
    """
    owners: dict[str, onnx.GraphProto] = {}
    for inner in subgraph_protos(graph):
        owners |= dict.fromkeys((value.name for value in [*inner.input, *inner.initializer]), inner)
        owners |= dict.fromkeys((name for node in inner.node for name in node.output), inner)
    while moved := [node for node in graph.node if node.input and node.input[0] in owners]:
        for node in moved:  # one may take another's output
            owners |= dict.fromkeys(node.output, owners[node.input[0]])
            owners[node.input[0]].node.append(node)
            graph.node.remove(node)


def _undo_round_trips(graph: "ir.Graph") -> None:
    """What is cast to half precision and back is taken as it was before."""
    import onnx_ir as ir

    def casts(node: "ir.Node | None", to: int) -> bool:
        return node is not None and node.op_type == "Cast" and node.attributes["to"].as_int() == to

    for node in list(graph.all_nodes()):
        whole = node.outputs[0]
        halved = node.inputs[0] if casts(node, ir.DataType.FLOAT) else None
        before = producer(halved)
        if before is not None and casts(before, ir.DataType.FLOAT16):
            for use in whole.uses():
                use.node.replace_input_with(use.idx, before.inputs[0])
            if not whole.is_graph_output():
                node.graph.remove(node, safe=True)
