"""A model with a factor for each unit: what slopes are taken of, and what takes units away without a new graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.channels.graph import ChannelGraph
from tasks.channels.rules import Numbers, rule_for
from tasks.keras_graph.rebuild import Call, Copies, rebuild

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Gated:
    """A graph's model, where each layer that reads channels reads them times their units' gates.

    gates: `(units + 1,)`, ones; the last one is of what stays, where -1 looks.
    """

    model: "tf.keras.Model"
    gates: "tf.Variable"

    @contextmanager
    def without(self, units: Numbers) -> Iterator[None]:
        """While the block lasts, the model answers as if these units were cut."""
        open_gates = self.gates.numpy()
        closed = open_gates.copy()
        closed[units] = 0
        self.gates.assign(closed)
        try:
            yield
        finally:
            self.gates.assign(open_gates)


def gated(graph: ChannelGraph) -> Gated:
    """A graph's model with gates, all of them open; the graph's own model stays as it is."""
    import tensorflow as tf

    gates = tf.Variable(tf.ones(graph.units + 1), trainable=False)

    class Gate(tf.keras.layers.Layer):  # type: ignore[misc]  # Keras has no annotations
        """Multiplies channels by the gates of their units."""

        def __init__(self, numbers: npt.NDArray[np.int64]) -> None:
            super().__init__()
            self.numbers = tf.constant(np.where(numbers < 0, graph.units, numbers))

        def call(self, x: "tf.Tensor") -> "tf.Tensor":
            return x * tf.gather(gates, self.numbers)

        def compute_mask(self, inputs: "tf.Tensor", mask: Any = None) -> Any:  # noqa: ARG002
            return mask

    copies = Copies()

    def answer(call: Call) -> Any:
        rule, ends, args = rule_for(call.layer), graph.ends.get(call.layer.name), call.args
        if rule is not None and rule.reads and ends is not None and (ends.inputs >= 0).any():
            args = (Gate(ends.inputs)(args[0]), *args[1:])
        return copies.call(call.layer, args, call.kwargs)

    return Gated(rebuild(graph.model, answer), gates)
