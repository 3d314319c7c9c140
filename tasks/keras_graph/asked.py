"""A Keras model asked for its answers, whatever its inputs and outputs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.named import Array, ordered, packed
from tasks.keras_graph.names import signature_names

if TYPE_CHECKING:
    import tensorflow as tf


def asked(model: "tf.keras.Model", x: Array, batch: int = 32) -> Array:
    """What a model of Keras 2 answers: float32 `(n, …)`, or records by the names that its outputs have in every file.

    Args:
        model: its inputs stand in the order of the records' fields.
        x: raw inputs `(n, …)`, or records `(n,)`.
        batch: how many it is asked at once.

    """
    import tensorflow as tf

    several = tf.nest.flatten(model.predict(as_called(x), batch_size=batch, verbose=0))
    named = zip(signature_names(model)[1], several, strict=True)
    return packed({name: np.asarray(each, np.float32) for name, each in named})


def as_called(x: Array) -> Any:
    """Examples as a model of Keras 2 is called with them: an array, or a list of them in the order of its inputs."""
    taken = ordered(x, x.dtype.names or ())
    return taken if len(taken) > 1 else taken[0]
