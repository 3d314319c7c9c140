"""ONNX graphs as `onnx_ir` has them, and what rewriting them needs beyond it.

There a tensor is a value that knows its producer and its consumers, also those in the subgraphs of Loop, Scan and If: a
value that a subgraph captures from around it is the same object.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir


def array(value: "ir.Value | None") -> np.ndarray | None:
    """A constant's numbers; none of what is computed, comes in, or is left out."""
    import onnx_ir as ir

    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_array(value: "ir.Value | None") -> np.ndarray:
    """The numbers of what is a constant."""
    numbers = array(value)
    assert numbers is not None
    return numbers


def number(value: "ir.Value | None") -> float:
    """The one number that a constant is."""
    return float(constant_array(value).item())


def constant(numbers: np.ndarray) -> "ir.Value":
    """A new constant, for any operator to take."""
    import onnx_ir as ir

    return ir.val(None, const_value=ir.tensor(numbers))


def producer(value: "ir.Value | None") -> "ir.Node | None":
    """The operator that a value comes out of; none of inputs and constants, and where an input is left out."""
    return None if value is None else value.producer()


def dequantize_before(value: "ir.Value | None") -> "ir.Node | None":
    """The DequantizeLinear that a value comes out of, if it comes out of one."""
    source = producer(value)
    return source if source is not None and source.op_type == "DequantizeLinear" else None


def only_consumer(value: "ir.Value | None") -> "ir.Node | None":
    """The operator that takes a value, if it is one alone, in the value's own graph, and the value is no output."""
    if value is None or value.is_graph_output() or len(nodes := value.consumers()) != 1:
        return None
    return nodes[0] if nodes[0].graph is value.graph else None


def ancestors(value: "ir.Value | None") -> "list[ir.Node]":
    """The operators that a value is made by."""
    nodes: dict[ir.Node, None] = {}
    waiting = [value]
    while waiting:
        node = producer(waiting.pop())
        if node is not None and node not in nodes:
            nodes[node] = None
            waiting += node.inputs
    return list(nodes)


def append_input(node: "ir.Node", value: "ir.Value") -> None:
    """Gives an operator one input more."""
    node.resize_inputs(len(node.inputs) + 1)
    node.replace_input_with(len(node.inputs) - 1, value)


def insert_before(node: "ir.Node", kind: str, inputs: "list[ir.Value | None]", **attributes: int) -> "ir.Value":
    """A new operator in front of another one, of the same layer; its output."""
    import onnx_ir as ir

    new = ir.node(kind, inputs, attributes, name=node.name)
    node.graph.insert_before(node, new)
    return new.outputs[0]


def hand_over(value: "ir.Value", other: "ir.Value") -> None:
    """Whatever takes a value takes another one; it is an output of the graph where the first one was."""
    if value.is_graph_output():
        other.type, other.shape = value.type, value.shape
    value.replace_all_uses_with(other, replace_graph_outputs=True)


def bypass(node: "ir.Node", value: "ir.Value") -> None:
    """Takes an operator out: whatever takes its output takes a value in its place."""
    hand_over(node.outputs[0], value)
    node.graph.remove(node, safe=True)


def subgraphs(node: "ir.Node") -> "list[ir.Graph]":
    """The graphs that an operator runs, none for most."""
    import onnx_ir as ir

    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs


def taken(node: "ir.Node") -> "list[ir.Value]":
    """The values that an operator takes, each once: its inputs, and what its subgraphs capture.

    `onnx_ir.analysis` has the latter as a set, in another order in each process.
    """
    inner = [each for graph in subgraphs(node) for each in graph.all_nodes()]
    inside = {each.graph for each in inner}
    captured = [value for each in inner for value in each.inputs if value is not None and value.graph not in inside]
    return list(dict.fromkeys([*filter(None, node.inputs), *captured]))


def sort_by_need(graph: "ir.Graph") -> None:
    """Puts each operator right behind what it is the first to need, from the outputs on; what none needs goes.

    This order is the graph's alone. `onnx_ir`'s own sorting keeps as much as it can of the order that there was.
    """
    ordered: list[ir.Node] = []
    seen: set[ir.Node] = set()
    for output in graph.outputs:
        waiting = [(output.producer(), False)]
        while waiting:
            node, ready = waiting.pop()
            if node is None or node.graph is not graph:
                continue
            if ready:
                ordered.append(node)
            elif node not in seen:
                seen.add(node)
                waiting.append((node, True))
                waiting += [(value.producer(), False) for value in reversed(taken(node))]
    graph.remove([node for node in graph if node not in seen])
    graph.extend(ordered)
