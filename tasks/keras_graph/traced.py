"""A graph of TensorFlow's as a layer of Keras 2: for what no layer of Keras 2 computes, whoever wrote it.

The graph is in the layer's config, so that files of it open without the code that it was traced from. Its weights are
the layer's own: they train, and are carried over as those of any other. It computes as it did without training.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

PACKAGE = "slimline"  # under which Keras knows the class in files
# What a graph says of where it came from: gradients of code that is gone, and functions to be compiled, which no
# converter looks into.
LEFT_BEHIND = ("_gradient_op_type", "_XlaMustCompile", "_noinline")


@dataclass(frozen=True)
class Weight:
    """A weight of what is traced."""

    value: np.ndarray
    trainable: bool


def traced(
    function: Callable[[list[Any], list[Any]], list[Any]],
    tensors: Sequence[Any],
    weights: Sequence[Weight],
    *,
    name: str,
    shapes: Sequence[Sequence[int | None]],
    input_dim: int | None = None,
) -> "tf.keras.layers.Layer":
    """A layer that computes what a function of TensorFlow tensors does.

    Args:
        function: from tensors and weights, each in the order given here, to tensors.
        tensors: like those that it will take, their batch free.
        weights: trainable ones first, as Keras 2 lists a layer's.
        name: the layer's.
        shapes: of its outputs, as far as they are known; TensorFlow forgets some on the way.
        input_dim: how many whole numbers its inputs may choose among, where it is known.

    Raises:
        ValueError: it computes with variables that are none of its weights.

    """
    import tensorflow as tf

    specs = [tf.TensorSpec(each.shape, each.dtype, f"input_{place}") for place, each in enumerate(tensors)]
    specs += [tf.TensorSpec(each.value.shape, each.value.dtype, f"weight_{n}") for n, each in enumerate(weights)]
    count = len(tensors)
    whole = tf.function(lambda *given: function(list(given[:count]), list(given[count:])), autograph=False)
    graph = whole.get_concrete_function(*specs).graph
    content = _with_constants(graph)
    return layer_class()(
        base64.b64encode(_settled(content).SerializeToString(deterministic=True)).decode(),
        [value.name for value in graph.inputs[: len(specs)]],
        [value.name for value in graph.outputs],
        [
            {"shape": list(each.value.shape), "dtype": each.value.dtype.name, "trainable": each.trainable}
            for each in weights
        ],
        [list(shape) for shape in shapes],
        input_dim,
        name=name,
    )


@cache
def layer_class() -> Any:
    """The class of such layers. Keras finds it in files once this was called."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    @tf.keras.utils.register_keras_serializable(PACKAGE)
    class Traced(tf.keras.layers.Layer):  # type: ignore[misc]
        """A graph of TensorFlow's, and its weights."""

        def __init__(
            self,
            graph: str,
            takes: list[str],
            gives: list[str],
            variables: list[dict[str, Any]],
            shapes: list[list[int | None]],
            input_dim: int | None = None,
            **settings: Any,
        ) -> None:
            super().__init__(**settings)
            self.graph, self.takes, self.gives = graph, list(takes), list(gives)
            self.variables_of, self.shapes = [dict(each) for each in variables], [list(each) for each in shapes]
            self.input_dim = input_dim
            self._function = tf.function(self._imported, autograph=False)  # without one, there are no gradients

        def build(self, shape: Any) -> None:
            self._own = [
                self.add_weight(f"weight_{number}", each["shape"], each["dtype"], "zeros", trainable=each["trainable"])
                for number, each in enumerate(self.variables_of)
            ]
            super().build(shape)

        def call(self, inputs: Any) -> Any:
            given = [*tf.nest.flatten(inputs), *(tf.convert_to_tensor(each) for each in self._own)]
            outputs = list(self._function(*given))
            if not tf.executing_eagerly():
                for tensor, shape in zip(outputs, self.shapes, strict=True):
                    tensor.set_shape(shape)
            return outputs if len(outputs) > 1 else outputs[0]

        def _imported(self, *given: Any) -> Any:
            graph = tf.compat.v1.GraphDef.FromString(base64.b64decode(self.graph))
            for function in graph.library.function:  # which importing makes known to the graph alone
                if not context.context().has_function(function.signature.name):
                    context.context().add_function_def(function)
            return tf.graph_util.import_graph_def(
                graph, dict(zip(self.takes, given, strict=True)), self.gives, name="traced"
            )

        def get_config(self) -> dict[str, Any]:
            own = {"graph": self.graph, "takes": self.takes, "gives": self.gives, "variables": self.variables_of}
            return {**super().get_config(), **own, "shapes": self.shapes, "input_dim": self.input_dim}

    return Traced


def _with_constants(graph: Any) -> Any:
    """A traced function's graph, with the tensors that it captured as constants in it."""
    import tensorflow as tf

    content = graph.as_graph_def()
    nodes = {node.name: node for node in content.node}
    for value, placeholder in graph.captures:
        if value.dtype == tf.resource:
            raise ValueError("it keeps a variable that is none of its weights: make it with add_weight")
        node = nodes[placeholder.op.name]
        node.Clear()
        node.op, node.name = "Const", placeholder.op.name
        node.attr["dtype"].type = value.dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))
    return content


def _settled(content: Any) -> Any:
    """A graph that depends on what it computes alone: TensorFlow numbers functions by what else was traced before."""
    functions = {function.signature.name: function for function in content.library.function}
    called: dict[str, str] = {}
    waiting = list(content.node)
    while waiting:
        for func in _functions(waiting.pop(0)):
            if func.name in functions and func.name not in called:
                called[func.name] = f"function_{len(called)}"
                waiting += functions[func.name].node_def
            func.name = called.get(func.name, func.name)
    kept = [functions[name] for name in called]
    for function in kept:
        function.signature.name = called[function.signature.name]
        for key in LEFT_BEHIND:
            function.attr.pop(key, None)
    content.library.Clear()
    content.library.function.extend(kept)
    # another layer's functions have other names, as all of a process have one place
    mark = hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()[:12]
    kept = list(content.library.function)
    for function in kept:
        function.signature.name = f"traced_{mark}_{function.signature.name}"
    for node in (*content.node, *(node for function in kept for node in function.node_def)):
        for func in _functions(node):
            func.name = f"traced_{mark}_{func.name}"
    return content


def _functions(node: Any) -> Iterator[Any]:
    """The functions that a node calls; what says where it came from is left out of it."""
    for key in LEFT_BEHIND:
        node.attr.pop(key, None)
    for key in sorted(node.attr):
        value = node.attr[key]
        if value.WhichOneof("value") == "func":
            yield value.func
        elif value.WhichOneof("value") == "list":
            yield from value.list.func
