"""How finely files can be compared with a model: with its own answers, when next to nothing moves."""

import numpy as np
from small_models import convolutional, images

from tasks.contract.named import ONE
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.sensitivity import slack


def test_a_small_model_is_at_rest_and_keeps_its_weights():
    quantized = fake_quantized(convolutional(), images(64))
    before = [weight.numpy() for weight in quantized.weights]
    by = slack(quantized, images(32))[ONE]
    assert by.unrest < 1 / 255
    for weight, value in zip(quantized.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_a_deep_model_with_drawn_weights_is_not():
    """Each layer makes more of the one before: no file of it could be compared to within a step."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    x = inputs = tf.keras.Input((16,), name="input")
    for number in range(24):
        x = tf.keras.layers.Dense(16, activation="tanh", name=f"layer_{number}", kernel_initializer="random_normal")(x)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3, name="out")(x))
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(0, 0.6, weight.shape) for weight in model.get_weights()])
    data = draw.normal(0, 1, (64, 16)).astype(np.float32)
    by = slack(fake_quantized(model, data), data)[ONE]
    assert by.unrest > 3 * by.step
