"""What a classifier's outputs mean: read from its graph and its values, never by adding anything to it."""

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.contract.problem import Problem
from tasks.keras_graph.activations import activation_of
from tasks.keras_graph.names import pinned, signature_names, unpinned
from tasks.keras_graph.rebuild import kind

if TYPE_CHECKING:
    import tensorflow as tf

# probabilities: of classes, that sum to 1. shares: of each class alone, as sigmoids give them. logits: anything else;
# labels: those of labels that may stand together.
Meaning = Literal["probabilities", "shares", "logits", "labels"]

FUNCTIONS: dict[str, Meaning] = {"softmax": "probabilities", "sigmoid": "shares", "hard_sigmoid": "shares"}
SUMS = 1e-3  # by how much probabilities of any make may miss a sum of 1
TINY = 1e-7  # the least that shares sum up to
LOOKED_AT = 8  # random inputs, where the graph does not show it
# What stands behind a softmax and changes no value.
PASSING = frozenset({"Activation", "ActivityRegularization", "Dropout", "Flatten", "QuantizeLayer", "Reshape"})


def meaning(model: "tf.keras.Model", number: int = 0) -> Meaning:
    """What a model's output of this number, `(batch, …, classes)`, or `(batch, …, 1)` for two classes, means.

    A softmax or a sigmoid at the end is seen in the graph, as a layer, an activation or an operation, behind what only
    hands values on; a softmax of any other make by values that are probabilities for whatever comes in.
    """
    tensor = model.outputs[number]
    while True:
        layer, node, place = tensor._keras_history
        if hasattr(layer, "_is_graph_network"):  # a model inside
            return meaning(layer, place)
        known = _made_by(layer)
        if known is not None:
            return known
        parents = layer._inbound_nodes[node].keras_inputs
        if kind(layer) not in PASSING or not _linear(layer) or len(parents) != 1:
            break
        if parents[0].shape[-1] != tensor.shape[-1]:  # other values stand together than before
            break
        tensor = parents[0]
    return "probabilities" if _sum_to_one(model, number) else "logits"


def as_learned(model: "tf.keras.Model", problems: Problem | Sequence[Problem]) -> "tf.keras.Model":
    """A model with its outputs as a loss takes them: the same layers and weights.

    Of classes they are probabilities, of labels a share each. It is looked through and trained like the model that it
    was made of, and never kept.

    Args:
        model: any.
        problems: one for each output, in their order; one alone for a model with one output.

    """
    import tensorflow as tf

    each = [problems] if isinstance(problems, str) else problems
    outputs = []
    for number, (tensor, problem) in enumerate(zip(model.outputs, each, strict=True)):
        own = unpinned(tensor)
        learned = outputs_learned(own, meaning_for(model, problem, number))
        outputs.append(tensor if learned is own else learned)
    if all(map(operator.is_, outputs, model.outputs)):
        return model
    return tf.keras.Model(model.inputs, pinned(outputs, signature_names(model)[1]), name=model.name)


def meaning_for(model: "tf.keras.Model", problem: Problem, number: int = 0) -> Meaning | None:
    """What has to be made of a model's output for a loss: nothing of numbers, nor of what labels' sigmoids give."""
    if problem not in ("classification", "multilabel"):
        return None
    means = meaning(model, number)
    if problem == "multilabel":
        return "labels" if means == "logits" else None
    return means


def outputs_learned(outputs: "tf.Tensor", means: Meaning | None) -> "tf.Tensor":
    """Outputs `(batch, …)` as a loss takes them; see `meaning_for`."""
    import tensorflow as tf

    if means is None:
        return outputs
    return tf.sigmoid(outputs) if means == "labels" else probabilities_of(outputs, means)


def probabilities_of(outputs: "tf.Tensor", means: Meaning) -> "tf.Tensor":
    """A classifier's outputs `(batch, …, classes)`, or one sigmoid's `(batch, …, 1)`, as the classes' probabilities."""
    import tensorflow as tf

    if means == "probabilities":
        return outputs
    if means == "logits":
        return tf.keras.layers.Softmax()(outputs)
    if outputs.shape[-1] == 1:  # the second class's share
        return tf.concat([1 - outputs, outputs], axis=-1)
    return outputs / tf.maximum(tf.reduce_sum(outputs, axis=-1, keepdims=True), TINY)


def _made_by(layer: Any) -> Meaning | None:
    """What a layer's function makes of values, if it is one of the two that are known."""
    layer = layer.layer if kind(layer) == "QuantizeWrapperV2" else layer
    if kind(layer) == "Softmax":
        return "probabilities" if layer.axis in (-1, len(layer.output_shape) - 1) else None
    called = layer.symbol.rpartition(".")[2] if kind(layer) == "TFOpLambda" else activation_of(layer)
    return FUNCTIONS.get(called)


def _linear(layer: Any) -> bool:
    return activation_of(layer) == "linear"


def _sum_to_one(model: "tf.keras.Model", number: int) -> bool:
    import tensorflow as tf

    draw = np.random.default_rng(0)
    inputs = []
    for tensor in model.inputs:
        batch, *shape = tensor.shape
        values = draw.uniform(0, 2, (batch or LOOKED_AT, *(axis or 32 for axis in shape)))  # ids too: 0 and 1
        inputs.append(tf.cast(values, tensor.dtype))
    answers = tf.nest.flatten(model(inputs[0] if len(inputs) == 1 else inputs, training=False))
    values = answers[number].numpy()
    return bool((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) < SUMS).all())
