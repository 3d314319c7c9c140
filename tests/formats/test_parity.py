"""Files are held against their model; one that answers alike whatever it is asked, as before training, is no fault."""

import numpy as np
import pytest

from tasks.formats import FORMATS
from tasks.formats.parity import answers_apart, targets_apart
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.sensitivity import slack


@pytest.fixture(scope="module")
def faint():
    """As networks of many layers with drawn weights are: of what comes in, next to nothing comes out."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    inputs = tf.keras.Input((6, 6, 3), name="image")
    x = inputs
    for number in range(6):
        small = tf.keras.initializers.RandomNormal(stddev=0.01, seed=number)
        x = layers.Conv2D(8, 3, padding="same", activation="relu", kernel_initializer=small)(x)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return tf.keras.Model(inputs, layers.Softmax(name="shares")(x))


def test_answers_that_hardly_move_are_compared_by_what_floats_can_tell(faint):
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype(np.float32)
    quantized = fake_quantized(faint, x)
    answers = quantized.predict(x, verbose=0)
    assert 0 < np.ptp(answers, axis=0).max() < 1e-7
    assert targets_apart(faint, tuple(FORMATS), "float32", x, len(x)) == {}
    assert targets_apart(quantized, tuple(FORMATS), "int8", x, len(x)) == {}
    by = slack(quantized, x)
    assert answers_apart(answers + 1e-4, answers, "onnxruntime", "int8", by=by) is not None
