"""An ONNX graph that can be rewritten: which nodes take which tensors, and nodes named by Keras layer."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats.onnx.bodies import in_asking_order, rename_inside, retake, settle, taken, unique_name

if TYPE_CHECKING:
    import onnx


class OnnxGraph:
    """A model's graph, with constants as arrays and edges that can be asked for. Nodes stay in running order.

    What stands inside a node, as the body of a Loop, stays as it is; what it takes from outside, the node takes.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        from onnx import numpy_helper, shape_inference

        self.model = model
        known = shape_inference.infer_shapes(model).graph
        self.ranks = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in [*known.input, *known.value_info, *known.output]
            if value.type.tensor_type.HasField("shape")
        }
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.outputs = [value.name for value in model.graph.output]
        self._name_by_layer()
        self._made = 0

    def _name_by_layer(self) -> None:
        """Nodes are called as the Keras layer that they are from, or as what they do if that is not known.

        One that tf2onnx made anew has only a number. But the kernel or bias that it takes still has its name, or its
        output has; else it prepares what another one takes: of several the first by name, as their order is not the
        model's alone.
        """
        layers: dict[str, str] = {}  # by tensor: of who takes it
        for node in reversed(self.nodes):
            layer = layer_of([node.name, *filter(self.constants.__contains__, node.input), *node.output])
            layer = layer or min((layers[name] for name in node.output if name in layers), default="")
            for name in taken(node) if layer else ():
                layers[name] = min(layer, layers.get(name, layer))
            node.name = layer or node.op_type

    def giver(self, tensor: str) -> "onnx.NodeProto | None":
        """The node that a tensor comes out of; none for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def takers(self, tensor: str) -> "list[onnx.NodeProto]":
        """The nodes that take a tensor."""
        return [node for node in self.nodes if tensor in taken(node)]

    def only_taker(self, tensor: str) -> "onnx.NodeProto | None":
        """The node that takes a tensor, if it is one alone and the tensor does not leave the model."""
        takers = self.takers(tensor)
        return takers[0] if len(takers) == 1 and tensor not in self.outputs else None

    def constant(self, value: np.ndarray) -> str:
        """The name of a new constant."""
        self._made += 1
        name = f"constant_{self._made}"
        self.constants[name] = value
        return name

    def insert(self, kind: str, inputs: list[str], *, at: int, name: str, **attributes: Any) -> str:
        """A new node at a place in the running order; returns the name of its output."""
        from onnx import helper

        self._made += 1
        node = helper.make_node(kind, inputs, [f"tensor_{self._made}"], name=name, **attributes)
        self.nodes.insert(at, node)
        return str(node.output[0])

    def place(self, node: "onnx.NodeProto") -> int:
        """Where a node stands in the running order."""
        return next(place for place, other in enumerate(self.nodes) if other is node)

    def remove(self, node: "onnx.NodeProto") -> None:
        """Takes a node out of the running order; what took its output has to take something else."""
        del self.nodes[self.place(node)]

    def replace(self, tensor: str, by: str, start: int = 0) -> None:
        """Gives every taker of a tensor, from a place in the running order on, another one."""
        for node in self.nodes[start:]:
            retake(node, {tensor: by})

    def attribute(self, node: "onnx.NodeProto", name: str, default: Any) -> Any:
        """An attribute's value, or its default."""
        from onnx import helper

        return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)

    def set_attribute(self, node: "onnx.NodeProto", name: str, value: Any) -> None:
        """Sets an attribute."""
        from onnx import helper

        self.drop_attribute(node, name)
        node.attribute.append(helper.make_attribute(name, value))

    def drop_attribute(self, node: "onnx.NodeProto", name: str) -> None:
        """Leaves an attribute to its default."""
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)

    def finish(self, inputs: dict[str, str], outputs: dict[str, str]) -> "onnx.ModelProto":
        """The model with what is needed in it, under names that depend on the graph alone.

        tf2onnx counts the names that it makes through the life of a process.

        Args:
            inputs: new names of the model's inputs.
            outputs: new names of its outputs.

        """
        from onnx import numpy_helper

        graph = self.model.graph
        for node in self.nodes:
            settle(node)
        self.nodes = in_asking_order(self.nodes, [value.name for value in graph.output])
        names = {**inputs, **outputs, "": ""}
        unique: dict[str, int] = {}
        constants: list[onnx.TensorProto] = []
        for node in self.nodes:
            layer, node.name = node.name, unique_name(f"{node.name}/{node.op_type}", unique)
            for name in taken(node):
                if name in self.constants and name not in names:
                    names[name] = f"constant_{len(constants)}"
                    constants.append(numpy_helper.from_array(self.constants[name], names[name]))
            rename_inside(node, layer, unique)
            retake(node, names)
            for place, name in enumerate(node.output):
                names.setdefault(name, f"{node.name}:{place}")
                node.output[place] = names[name]
            node.doc_string = ""
        for value in [*graph.input, *graph.output]:
            value.name = names[value.name]
            for place, dim in enumerate(value.type.tensor_type.shape.dim):
                if not place:
                    dim.dim_param = "batch"
                elif dim.dim_param:
                    dim.ClearField("dim_param")  # tf2onnx numbers what it does not know
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(constants)
        graph.doc_string = ""
        return self.model


def layer_of(names: list[str]) -> str:
    """The Keras layer, from the first name with one: tf2onnx names are `model/layer/what__17`; empty if none has."""
    for name in names:
        parts = re.sub(r"__\d+", "", name).split("/")
        if len(parts) > 1:
            return parts[1].removesuffix(":0")
    return ""
