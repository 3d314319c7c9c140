"""A Keras model asked for its answers, whatever its inputs and outputs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.named import Array, ordered, packed
from tasks.keras_graph.rebuild import signature_names

if TYPE_CHECKING:
    import tensorflow as tf


def asked(model: "tf.keras.Model", x: Array, batch: int = 32) -> Array:
    """What a model of Keras 2 answers: float32 `(n, …)`, or records by the names that its outputs have in every file.

    Args:
        model: its inputs stand in the order of the records' fields.
        x: raw inputs `(n, …)`, or records `(n,)`.
        batch: how many it is asked at once.

    """
    taken = ordered(x, x.dtype.names or ())
    answers: Any = model.predict(taken if len(taken) > 1 else taken[0], batch_size=batch, verbose=0)
    if len(model.outputs) == 1:
        return np.asarray(answers[0] if isinstance(answers, list) else answers, np.float32)
    several = answers.values() if isinstance(answers, dict) else answers
    named = zip(signature_names(model)[1], several, strict=True)
    return packed({name: np.asarray(each, np.float32) for name, each in named})
