"""How much a channel matters, by four criteria of the field.

Each returns one number for each unit of a graph; the least important units are removed first, whatever layer they
are of.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.channels.gates import gated
from tasks.channels.graph import ChannelGraph
from tasks.channels.rules import rule_for
from tasks.keras_graph.rebuild import kind

if TYPE_CHECKING:
    import tensorflow as tf

Scores = npt.NDArray[np.float64]
Criterion = Literal["taylor", "l1", "l2", "norm_scale"]
BatchLoss = Callable[[Any, Any], "tf.Tensor"]  # (targets, predictions) -> the batch's mean, a scalar
ExampleBatches = Iterable[tuple[Any, Any]]


def magnitude(graph: ChannelGraph, order: Literal[1, 2]) -> Scores:
    """The norm of the filters that make a unit's channels (Li et al., "Pruning Filters for Efficient ConvNets", 2017).

    Norms are compared with the mean of their own layer, because layers of more inputs have larger ones; 1 is as much as
    the layer's average filter. A unit of several layers has the mean of its filters.

    Returns:
        `(units,)`.

    """
    norms_of_layers = []
    for name, ends in graph.ends.items():
        layer = graph.model.get_layer(name)
        rule = rule_for(layer)
        if rule is not None and rule.own is not None:
            weights = rule.own(layer).astype(np.float64)
            norms = np.linalg.norm(weights.reshape(-1, weights.shape[-1]), ord=order, axis=0)
            norms_of_layers.append((ends.outputs, norms / max(float(norms.mean()), np.finfo(np.float64).tiny)))
    return _means(graph.units, norms_of_layers)


def norm_scale(graph: ChannelGraph) -> Scores:
    """A channel's scale in batch normalisation (Liu et al., "Network Slimming", 2017).

    Returns:
        `(units,)`: the mean of the scales' magnitudes; infinite where no normalisation scales any of a unit's channels.

    """
    scales = []
    for name, ends in graph.ends.items():
        layer = graph.model.get_layer(name)
        if kind(layer) == "BatchNormalization" and layer.scale:
            scales.append((ends.outputs, np.abs(layer.gamma.numpy().astype(np.float64))))
    return _means(graph.units, scales)


def _means(units: int, channels: list[tuple[npt.NDArray[np.int64], Scores]]) -> Scores:
    """Each unit's mean over the channels that belong to it; infinite without any."""
    sums, counts = np.zeros(units), np.zeros(units)
    for numbers, values in channels:
        free = numbers >= 0
        np.add.at(sums, numbers[free], values[free])
        np.add.at(counts, numbers[free], 1)
    means: Scores = np.divide(sums, counts, out=np.full(units, np.inf), where=counts > 0)
    return means


def taylor(graph: ChannelGraph, batches: ExampleBatches, loss: BatchLoss) -> Scores:
    """How much the loss would change without a unit, to first order, squared and averaged over batches.

    Molchanov et al., "Importance Estimation for Neural Network Pruning" (2019), with gates: every layer that sums over
    channels reads them through a factor of one for each unit, and the loss's derivative by that factor is the change.
    Comparable across layers as it is.

    Args:
        graph: what is to be cut.
        batches: inputs `(batch, …)` and targets, each a list where there are several.
        loss: what is to be kept small, from targets and predictions.

    Returns:
        `(units,)`.

    """
    import tensorflow as tf

    parts = gated(graph)

    def slopes(x: Any, y: Any) -> "tf.Tensor":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parts.gates)
            value = loss(y, parts.model(x, training=False))
        # zero where no layer reads through a gate, as nothing can be cut
        return tape.gradient(value, parts.gates, unconnected_gradients="zero")

    slopes = tf.function(slopes)
    squares, count = np.zeros(graph.units + 1), 0
    for x, y in batches:
        squares += np.asarray(tf.convert_to_tensor(slopes(x, y)), np.float64) ** 2
        count += 1
    return squares[:-1] / max(count, 1)
