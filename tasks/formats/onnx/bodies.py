"""What stands inside an ONNX operator: the bodies of Loop and Scan, and the branches of If.

A body is a graph of its own that may take any tensor from around it by name, with no input that says so (ONNX IR
specification, "Graphs": names of outer scopes are visible). So who asks which tensors an operator takes, or gives a
tensor another name, has to look inside.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def bodies(node: "onnx.NodeProto") -> "list[onnx.GraphProto]":
    """The graphs that an operator runs, none for most."""
    graphs = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            graphs.append(attribute.g)
        graphs.extend(attribute.graphs)
    return graphs


def taken(node: "onnx.NodeProto") -> list[str]:
    """The tensors that an operator takes, each once: its inputs, and what its bodies take from around them."""
    names = dict.fromkeys(name for name in node.input if name)
    for body in bodies(node):
        names |= dict.fromkeys(_from_outside(body))
    return list(names)


def _from_outside(body: "onnx.GraphProto") -> Iterator[str]:
    known = _made_inside(body)
    for node in body.node:
        yield from (name for name in taken(node) if name not in known)
    yield from (value.name for value in body.output if value.name not in known)


def _made_inside(body: "onnx.GraphProto") -> set[str]:
    """The tensors that a body has itself. No two of it have one name, so that their order says nothing."""
    named = [*body.input, *body.initializer]
    return {value.name for value in named}.union(name for node in body.node for name in node.output)


def nodes_within(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.NodeProto]":
    """Operators and all that stand inside them, each after what it stands in."""
    for node in nodes:
        yield node
        for body in bodies(node):
            yield from nodes_within(body.node)


def in_running_order(graph: "onnx.GraphProto") -> None:
    """Puts each operator of a graph, and of the bodies in it, behind those whose tensors it takes; in place."""
    for node in graph.node:
        for body in bodies(node):
            in_running_order(body)
    ordered = in_asking_order(graph.node, [value.name for value in graph.output])
    del graph.node[:]
    graph.node.extend(ordered)


def move_inside(graph: "onnx.GraphProto") -> None:
    """Puts each operator of a graph into the body that has the tensor which it takes first; in place.

    Tools that put an operator behind another one often know the outermost graph alone. No two tensors of a file may
    have one name here.
    """
    inside = [body for node in nodes_within(graph.node) for body in bodies(node)]
    owners = {name: body for body in inside for name in _made_inside(body)}
    while moved := [node for node in graph.node if node.input and node.input[0] in owners]:
        for node in moved:  # one may take another's output
            owners |= dict.fromkeys(node.output, owners[node.input[0]])
            owners[node.input[0]].node.append(node)
            graph.node.remove(node)


def retake(node: "onnx.NodeProto", names: dict[str, str]) -> None:
    """Gives an operator, and what stands inside it, other tensors for those that it takes."""
    for place, name in enumerate(node.input):
        node.input[place] = names.get(name, name)
    for body in bodies(node):
        known = _made_inside(body)
        outer = {name: by for name, by in names.items() if name not in known}
        for inner in body.node:
            retake(inner, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)


def rename_inside(node: "onnx.NodeProto", layer: str, unique: "dict[str, int]") -> None:
    """Names for all that an operator's bodies have themselves: they depend on its own name alone.

    Args:
        node: the operator, under the name that it is to have.
        layer: whose operators those inside are.
        unique: how often each operator's name was used; counted on.

    """
    for number, body in enumerate(bodies(node)):
        values = [*body.input, *body.initializer, *body.sparse_initializer]
        names = {value.name: f"{node.name}:{number}:{place}" for place, value in enumerate(values)}
        for inner in body.node:
            inner.name = unique_name(f"{layer}/{inner.op_type}", unique)
            inner.doc_string = inner.domain = ""
            names |= {name: f"{inner.name}:{place}" for place, name in enumerate(inner.output) if name}
        body.name = f"{node.name}:{number}"
        body.doc_string = ""
        del body.value_info[:]
        for value in [*values, *body.output]:
            value.name = names.get(value.name, value.name)
        for value in [*body.input, *body.output]:
            for dim in value.type.tensor_type.shape.dim:
                dim.ClearField("dim_param")  # tf2onnx numbers what it does not know
        for inner in body.node:
            retake(inner, names)
            for place, name in enumerate(inner.output):
                inner.output[place] = names.get(name, name)
            rename_inside(inner, layer, unique)


def settle(node: "onnx.NodeProto") -> None:
    """Undoes what tf2onnx leaves to chance in an operator's bodies: the order, and which of two equals is taken.

    Equal constants become one. An output that is an input, a tensor from around, or another output too, gets an
    Identity; no other one stays.
    """
    for body in bodies(node):
        for inner in body.node:
            settle(inner)
        _settle(body)


def _settle(body: "onnx.GraphProto") -> None:
    from onnx import helper, numpy_helper

    by: dict[str, str] = {}
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for constant in body.initializer:
        value = numpy_helper.to_array(constant)
        if not value.size:  # stands for an input that is left out, each of a type of its own
            continue
        by[constant.name] = first.setdefault((value.dtype.str, value.shape, value.tobytes()), constant.name)
    by |= {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}

    def source(name: str) -> str:
        while by.get(name, name) != name:
            name = by[name]
        return name

    sources = {name: source(name) for name in by}
    nodes = [node for node in body.node if node.op_type != "Identity"]
    for node in nodes:
        retake(node, sources)
    free = {name for node in nodes for name in node.output}
    for place, value in enumerate(body.output):
        name = source(value.name)
        if name in free:
            free.remove(name)
            value.name = name
        else:
            value.name = f"{value.name}__output_{place}"
            nodes.append(helper.make_node("Identity", [name], [value.name]))
    nodes = in_asking_order(nodes, [value.name for value in body.output])
    constants = {constant.name: constant for constant in body.initializer}
    used = dict.fromkeys(name for node in nodes for name in taken(node) if name in constants)
    del body.node[:]
    body.node.extend(nodes)
    kept = [constants[name] for name in used]
    del body.initializer[:]
    body.initializer.extend(kept)


def in_asking_order(nodes: "Iterable[onnx.NodeProto]", outputs: Iterable[str]) -> "list[onnx.NodeProto]":
    """Those operators that outputs need, each right behind what it is the first to ask for: one order for a graph."""
    givers = {name: node for node in nodes for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    seen: set[int] = set()
    for output in outputs:
        waiting = [(givers.get(output), False)]
        while waiting:
            node, ready = waiting.pop()
            if node is None or (id(node) in seen and not ready):
                continue
            if ready:
                ordered.append(node)
                continue
            seen.add(id(node))
            waiting.append((node, True))
            waiting += [(givers.get(name), False) for name in reversed(taken(node))]
    return ordered


def unique_name(name: str, taken: dict[str, int]) -> str:
    """A name, numbered from the second time on."""
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"
