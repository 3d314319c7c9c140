"""Values that lie just between two steps: Keras, which sums up in float, rounds them as its processor does."""

from typing import Any

import numpy as np

from tasks.quantization.parameters import ends

NEAR = 1e-4  # of a step; sums of some hundred products were 4e-5 and 4e-6 from a tie that AVX2 rounds and AVX-512 not


def clear(quantized: Any, x: np.ndarray) -> np.ndarray:
    """Of which examples `(n,)` no value is near a tie, at any range of a fake-quantized model: their steps are sure."""
    import tensorflow as tf

    sure = np.ones(len(x), bool)
    ranges = [layer for layer in quantized.layers if type(layer).__name__ == "QuantizeLayer"]
    seen = tf.keras.Model(quantized.inputs, [layer.input for layer in ranges]).predict(x, verbose=0)
    for layer, values in zip(ranges, seen if len(ranges) > 1 else [seen], strict=True):
        low, high = ends(layer)
        steps = (values - low) / ((high - low) / 255)
        near = (np.abs(steps - np.floor(steps) - 0.5) < NEAR) & (values > low) & (values < high)
        sure &= ~near.reshape(len(x), -1).any(axis=1)
    return sure
