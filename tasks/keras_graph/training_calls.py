"""Calls that no file can answer as Keras does: of layers that go on training, or that remember the call before."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import calls_of, kind, training_of

if TYPE_CHECKING:
    import tensorflow as tf

NORMALIZING = frozenset({"BatchNormalization", "SyncBatchNormalization"})  # by the batch in training
RATES = ("rate", "stddev", "dropout", "recurrent_dropout")  # how much a random layer changes, by any of its names


def unanswerable(model: "tf.keras.Model") -> str:
    """What in a graph of layers answers otherwise than it was asked, and the way out; empty if nothing does.

    A layer that is called with `training=True` normalises by what it is asked together with, or draws anew each time;
    a stateful one goes on from the last call. No answer of a file can be right then.
    """
    return next(_reasons(model, None), "") if getattr(model, "_is_graph_network", False) else ""


def _reasons(model: "tf.keras.Model", outer: bool | None) -> Iterator[str]:
    """One for each call; `outer` is the `training` that the model itself is called with."""
    import tensorflow as tf

    for node in calls_of(model):
        layer, training = node.layer, training_of(node.layer, node.call_args, node.call_kwargs)
        training = outer if training is None else training
        if isinstance(layer, tf.keras.Model) and getattr(layer, "_is_graph_network", False):
            yield from _reasons(layer, training)
            continue
        where = f"layer '{layer.name}' ({kind(layer)})"
        for part in layer._flatten_layers():
            if getattr(part, "stateful", False) and hasattr(part, "reset_states"):
                yield (
                    f"{where} is stateful: what it answers depends on the calls before, which files do not remember. "
                    "Build the model with stateful=False and a free batch, give it whole sequences, and set_weights "
                    "from this one's get_weights()"
                )
            elif kind(part) == "TFOpLambda" and _draws(part.symbol):
                yield f"{where} draws at random whenever it is asked: leave it out"
            elif training is not None and (not isinstance(training, bool | int | np.bool_) or training):
                yield from _trained(where, part, len(tf.nest.flatten(node.outputs)[0].shape))


def _trained(where: str, part: "tf.keras.layers.Layer", rank: int) -> Iterator[str]:
    """Why the answers of a part that is called with training=True are not the file's, if they are not."""
    call = f"{where} is called with training=True"
    again = "build the model with training=False there, or without, and set_weights from this one's get_weights()"
    if kind(part) in NORMALIZING:
        if part.trainable:  # a frozen one goes by its own statistics in any case
            alone = "put tf.keras.layers.LayerNormalization() in its place and train again"
            if rank > 2:
                alone = (
                    f"put tf.keras.layers.GroupNormalization(groups=-1, epsilon={part.epsilon:g}) with its gamma and "
                    "beta in its place, which answers as this one does when it is asked one at a time"
                )
            yield f"{call}, so that an answer depends on what else is in its batch: {alone}; or {again}"
    elif isinstance(part, _random()):
        rates = [getattr(part, name) for name in RATES if isinstance(getattr(part, name, None), int | float)]
        if any(rates) or not rates:
            yield f"{call}, so that its answers are drawn at random: {again}"
    elif part._expects_training_arg and (getattr(part, "_fn_expects_training_arg", False) or not _of_keras(part)):
        yield f"{call}, and what it does then is code of your own, which is not looked into: {again}"


def _draws(symbol: str) -> bool:
    """Whether an operation of TensorFlow, by its name behind `tf.`, draws numbers."""
    return (symbol.startswith("random.") and "stateless" not in symbol) or symbol == "nn.dropout"


def _of_keras(part: "tf.keras.layers.Layer") -> bool:
    return type(part).__module__.startswith("tf_keras.")


def _random() -> Any:
    """The class of Keras' layers that draw numbers, which has no public name."""
    import tensorflow as tf

    return next(base for base in tf.keras.layers.Dropout.__mro__ if base.__name__ == "BaseRandomLayer")
