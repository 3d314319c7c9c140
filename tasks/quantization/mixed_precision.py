"""Mixed precision: layers are ranked by what each costs in integers, and the worst stay in float until enough is kept.

The cost of a layer is the mean squared change of the model's outputs when it alone is in integers, as in the
sensitivity analyses of HAQ and of NVIDIA's pytorch-quantization: a share of right answers moves too seldom to rank by.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.named import field, names_of
from tasks.contract.progress import listener
from tasks.quantization.parameters import in_integers

if TYPE_CHECKING:
    import tensorflow as tf


def mixed(
    make: Callable[[Collection[str]], "tf.keras.Model"],
    answers: Callable[["tf.keras.Model"], np.ndarray],
    drop: Callable[[np.ndarray], float],
    expected: np.ndarray,
    tolerance: float,
) -> "tf.keras.Model":
    """The fake-quantized model with the fewest layers in float whose drop is at most the tolerance.

    At least one layer stays in integers: whoever wants none has the float model.

    Args:
        make: a fake-quantized model whose layers of these names stay in float.
        answers: a model's outputs `(n, ...)` on the examples that decide.
        drop: how far the score of such outputs lies below the float model's.
        expected: the float model's outputs.
        tolerance: the largest drop, in the unit of the score.

    """
    model = make(())
    dropped = drop(answers(model))
    if dropped <= tolerance:
        return model
    layers = in_integers(model)
    listener().note("quantize", f"all in integers, the score drops by {dropped:.4f}: ranking {len(layers)} layers")
    ranked = ranking(layers, make, answers, expected)
    for count in range(1, len(ranked)):
        model = make(ranked[:count])
        dropped = drop(answers(model))
        listener().note("quantize", f"{ranked[count - 1]} in float too: the score drops by {dropped:.4f}")
        if dropped <= tolerance:
            break
    return model


def ranking(
    layers: Sequence[str],
    make: Callable[[Collection[str]], "tf.keras.Model"],
    answers: Callable[["tf.keras.Model"], np.ndarray],
    expected: np.ndarray,
) -> list[str]:
    """Layers by what each costs when it alone is in integers, the most costly first."""
    costs = {}
    for layer in layers:
        alone = make([other for other in layers if other != layer])
        costs[layer] = change(answers(alone), expected)
    return sorted(layers, key=lambda layer: -costs[layer])


def change(actual: np.ndarray, expected: np.ndarray) -> float:
    """The mean squared change of outputs; of several, each in the unit of its own variance, and their sum."""

    def of_one(name: str) -> float:
        changed, was = (field(each, name).astype(np.float64) for each in (actual, expected))
        return float(np.square(changed - was).mean() / max(was.var(), np.finfo(np.float32).tiny))

    return sum(map(of_one, names_of(expected)))
