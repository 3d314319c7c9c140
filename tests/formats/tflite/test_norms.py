"""Group normalization in LiteRT: right for any number of examples at once."""

import numpy as np
import pytest

from tasks.formats.tflite import files as tflite
from tasks.measuring.agreement import furthest

CASES = [
    ((8, 8, 6), 2, {}),
    ((8, 6), 3, {}),
    ((6,), 3, {}),
    ((8, 8, 6), -1, {}),
    ((8, 8, 6), 2, {"scale": False}),
    ((8, 8, 6), 3, {"center": False, "epsilon": 0.1}),
    ((4, 5, 5, 6), 2, {}),
    ((6, 8, 8), 2, {"axis": 1}),
]


@pytest.mark.parametrize(("shape", "groups", "how"), CASES)
def test_any_number_of_examples_is_answered_as_in_keras(shape, groups, how, tmp_path):
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input(shape)
    model = tf.keras.Model(inputs, layers.Dense(3)(layers.GroupNormalization(groups, **how)(inputs)))
    draw = np.random.default_rng(0)
    model.set_weights([weight + draw.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    x = draw.normal(0, 1, (16, *shape)).astype(np.float32)
    tflite.write(model, tmp_path, "float32", classes=())
    call, expected = tflite.load(tmp_path), model(x).numpy()
    for batch in (1, 2, 16):
        actual = np.concatenate([call(x[start : start + batch]) for start in range(0, 16, batch)])
        assert furthest(actual, expected).share <= 1, batch
