"""tf2onnx's models under names and in an order that depend on the model alone, the names those of Keras' layers.

tf2onnx counts the names that it makes through the life of a process, and walks through sets.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tasks.formats.onnx.graph import bypass, sort_by_need, subgraphs, taken

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def read(proto: "onnx.ModelProto") -> "ir.Model":
    """A model of tf2onnx to rewrite: its shapes as far as ONNX infers them, operators named by layer."""
    import onnx
    import onnx_ir as ir

    _declare_outputs(proto.graph)
    model = ir.from_proto(proto)
    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    for info in onnx.shape_inference.infer_shapes(proto).graph.value_info:
        ir.serde.deserialize_value_info_proto(info, values[info.name])
    _name_by_layer(model.graph)
    return model


def _declare_outputs(graph: "onnx.GraphProto") -> None:
    """Each output of a subgraph gets an Identity of its own: tf2onnx also gives out inputs, or what is captured.

    Nothing but what a subgraph computes may be an output of it, and once alone. `written` leaves out what was not
    needed.
    """
    for subgraph in subgraph_protos(graph):
        for place, value in enumerate(subgraph.output):
            node = subgraph.node.add(op_type="Identity", input=[value.name], output=[f"{value.name} as output {place}"])
            value.name = node.output[0]


def subgraph_protos(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    """The subgraphs in a graph that is no `onnx_ir.Graph` yet, each before those in it."""
    for node in graph.node:
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):  # none is one without operators
                yield subgraph
                yield from subgraph_protos(subgraph)


def _name_by_layer(graph: "ir.Graph") -> None:
    """Operators are called as the Keras layer that they are from, or as what they do if that is not known.

    One that tf2onnx made anew has only a number. But the kernel or bias that it takes still has its name, or its
    output has; else it prepares what another one takes: of several the first by name, as their order is not the
    model's alone.
    """
    layers: dict[ir.Value, str] = {}  # of who takes it
    for node in reversed(graph):
        constants = [value for value in node.inputs if value is not None and value.const_value is not None]
        layer = layer_of([node.name, *(value.name for value in [*constants, *node.outputs])])
        layer = layer or min((layers[value] for value in node.outputs if value in layers), default="")
        for value in taken(node) if layer else ():
            layers[value] = min(layer, layers.get(value, layer))
        node.name = layer or node.op_type


def layer_of(names: Iterable[str | None]) -> str:
    """The Keras layer, from the first name with one: tf2onnx names are `model/layer/what__17`; empty if none has."""
    for name in names:
        parts = re.sub(r"__\d+", "", name or "").split("/")
        if len(parts) > 1:
            return parts[1].removesuffix(":0")
    return ""


def written(model: "ir.Model", inputs: Iterable[str], outputs: Iterable[str]) -> "onnx.ModelProto":
    """A model with what its outputs need in it, under names that depend on the graph alone.

    Args:
        model: rewritten in place; its operators called as their layers.
        inputs: names for the model's inputs.
        outputs: names for its outputs.

    """
    import onnx_ir as ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    graph = model.graph
    for subgraph in reversed(list(graph.subgraphs())):
        _settle(subgraph)
    _arrange(graph)
    names: dict[ir.Value, str] = {}
    counted: Counter[str] = Counter()
    for node in graph:
        layer = node.name
        _name(node, layer, names, counted)
        _name_inside(node, layer, names, counted)
    names |= dict(zip(graph.inputs, inputs, strict=True)) | dict(zip(graph.outputs, outputs, strict=True))
    ir.convenience.rename_values(list(names), list(names.values()))
    for each in model.graphs():
        _name_axes(each, "batch" if each is graph else None)
        forget_shapes(each)
    return ir.to_proto(ClearMetadataAndDocStringPass()(model).model)


def _settle(subgraph: "ir.Graph") -> None:
    """Undoes what tf2onnx leaves to chance in a subgraph: the order, and which of two equals is taken.

    Equal constants become one. An output that is an input, captured, or another output too keeps its Identity; no
    other one stays.
    """
    first: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}
    for constant in subgraph.initializers.values():
        tensor = constant.const_value
        equal = first.setdefault((tensor.dtype, tensor.shape.numpy(), tensor.tobytes()), constant)
        if tensor.size:  # else it stands for an input that is left out, each of a type of its own
            constant.replace_all_uses_with(equal)
    for node in [node for node in subgraph if node.op_type == "Identity"]:
        value = node.inputs[0]
        computed = value.producer() is not None and value.graph is subgraph and not value.is_graph_output()
        if computed or not node.outputs[0].is_graph_output():
            bypass(node, value)
    _arrange(subgraph)


def _arrange(graph: "ir.Graph") -> None:
    """Puts operators and constants in the order in which they are needed; what none needs goes."""
    import onnx_ir as ir

    sort_by_need(graph)
    values = dict.fromkeys(value for node in graph for value in taken(node))
    constants = [value for value in values if value.const_value is not None and value.graph in (graph, None)]
    graph.initializers.clear()
    for place, value in enumerate(constants):
        value.name = f"constant_{place}"
        if isinstance(value.const_value, ir.serde.TensorProtoTensor):  # bytes, or numbers one by one
            value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
        graph.initializers.add(value)


def _name(node: "ir.Node", layer: str, names: "dict[ir.Value, str]", counted: Counter[str]) -> None:
    """Names for an operator and what it computes; `counted` is how often each operator's name was used."""
    name = f"{layer}/{node.op_type}"
    counted[name] += 1
    node.name = name if counted[name] == 1 else f"{name}_{counted[name]}"
    names |= {value: f"{node.name}:{place}" for place, value in enumerate(node.outputs) if value.name}


def _name_inside(node: "ir.Node", layer: str, names: "dict[ir.Value, str]", counted: Counter[str]) -> None:
    """The same for all that an operator's subgraphs have themselves: it depends on the operator's own name alone."""
    for number, subgraph in enumerate(subgraphs(node)):
        subgraph.name = f"{node.name}:{number}"
        values = [*subgraph.inputs, *subgraph.initializers.values()]
        names |= {value: f"{subgraph.name}:{place}" for place, value in enumerate(values)}
        for inner in subgraph:
            _name(inner, layer, names, counted)
        for inner in subgraph:
            _name_inside(inner, layer, names, counted)


def _name_axes(graph: "ir.Graph", first: str | None) -> None:
    """Gives the first axis of what goes in and out a name, if any, and open ones none: tf2onnx numbers them."""
    import onnx_ir as ir

    for value in [*graph.inputs, *graph.outputs]:
        if value.shape is not None:
            sizes = [size if isinstance(size, int) else None for size in value.shape]
            value.shape = ir.Shape([size if axis else first or size for axis, size in enumerate(sizes)])


def forget_shapes(graph: "ir.Graph") -> None:
    """Shapes and types stay at a graph's ends alone: who reads it infers the others."""
    for value in [*graph.initializers.values(), *(output for node in graph for output in node.outputs)]:
        if not value.is_graph_output():
            value.type = value.shape = None
