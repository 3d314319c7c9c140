"""Layer normalizations that TensorFlow's graphs fail on are refused, and what stands for them answers the same."""

import numpy as np
import pytest

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.data.heads import Head
from tasks.formats.keras.files import fitted

X = np.random.default_rng(0).normal(size=(4, 8, 4)).astype(np.float32)


def model(*layers):
    import tensorflow as tf

    return tf.keras.Sequential([tf.keras.Input((8, 4), name="input"), *layers])


def taken(one):
    return fitted(one, {ONE: (8, 4)}, [Head(problem="regression", output_shape=one.output_shape[1:])], "norms", "model")


def test_one_over_steps_and_channels_is_refused_with_a_way_out_that_works():
    import tensorflow as tf

    layers = tf.keras.layers
    refused = model(layers.LayerNormalization(axis=[1, 2], name="whole"))
    weights = [np.random.default_rng(1).normal(size=(8, 4)) for _ in range(2)]
    refused.set_weights(weights)
    with pytest.raises(ModelError, match=r"'whole'.*Reshape\(\(32,\)\)"):
        taken(refused)
    again = model(layers.Reshape((32,)), layers.LayerNormalization(epsilon=0.001), layers.Reshape((8, 4)))
    again.set_weights([weight.reshape(32) for weight in weights])
    np.testing.assert_allclose(taken(again).predict(X, verbose=0), refused(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"axis": 1}, {"axis": [1, 2], "scale": False}, {"axis": [1, 2], "epsilon": 1e-6}])
def test_others_are_taken_and_run_as_graphs(settings):
    import tensorflow as tf

    one = taken(model(tf.keras.layers.LayerNormalization(**settings)))
    np.testing.assert_allclose(one.predict(X, verbose=0), one(X), rtol=1e-4, atol=1e-5)
