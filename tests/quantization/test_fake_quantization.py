import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import convolutional, images

from tasks.keras_graph.rebuild import kind
from tasks.quantization.fake_quantization import custom_objects, fake_quantized, frozen
from tasks.quantization.parameters import is_fake_quantized, kernel_steps, nudged


@pytest.fixture(scope="module")
def model():
    return convolutional()


@pytest.fixture(scope="module")
def quantized(model):
    return fake_quantized(model, images(64))


def test_what_is_quantized(quantized):
    ranges = [layer.name for layer in quantized.layers if kind(layer) == "QuantizeLayer"]
    # behind the Relu and not before it; pooling of maxima, padding and flattening keep the range of what they move
    before, behind = ["scale", "stem_relu", "depthwise_relu", "pointwise"], ["mean", "dense_relu", "logits"]
    assert ranges == [f"{name}_range" for name in [*before, "add_relu", "strided_activation", *behind]]
    wrapped = {layer.layer.name for layer in quantized.layers if kind(layer) == "QuantizeWrapperV2"}
    assert wrapped == {"stem", "depthwise", "pointwise", "strided", "dense", "logits"}


def test_ranges_are_the_examples_own(model, quantized):
    values = model.get_layer("stem_relu")
    import tensorflow as tf

    seen = tf.keras.Model(model.inputs, values.output)(images(64)).numpy()
    range_layer = quantized.get_layer("stem_relu_range")
    assert range_layer.quantizer_vars["min_var"].numpy() == 0  # so that the Relu is part of the kernel before it
    assert range_layer.quantizer_vars["max_var"].numpy() == pytest.approx(seen.max(), rel=1e-4)


def test_answers_stay_close(model, quantized):
    x = images(500, seed=5)
    before, after = model.predict(x, verbose=0), quantized.predict(x, verbose=0)
    assert np.abs(before - after).max() < 0.05
    assert np.mean(before.argmax(1) == after.argmax(1)) > 0.98


def test_each_channel_of_a_kernel_has_its_own_steps(quantized):
    lowered, kernels = frozen(quantized), kernel_steps(quantized)
    for name, axis in {"stem": -1, "depthwise": -2, "dense": -1}.items():
        kernel = np.moveaxis(lowered.get_layer(name).get_weights()[0], axis, -1)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        sizes = kernels.of(kernel)
        steps = kernel / sizes
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert 64 < np.abs(steps).max() < 127.01
        assert len({round(float(size), 6) for size in sizes}) > 1


def test_frozen_computes_the_same(quantized):
    x = images(32, seed=2)
    np.testing.assert_allclose(frozen(quantized)(x), quantized(x), atol=1e-6)


def test_it_is_read_back_from_a_file(quantized, tmp_path):
    import tensorflow as tf

    from tasks.formats.keras import files as keras

    keras.write(quantized, tmp_path)
    tf.keras.backend.clear_session()
    again = keras.load(tmp_path)
    assert is_fake_quantized(again)
    np.testing.assert_array_equal(again(images(8)), quantized(images(8)))


def test_the_model_handed_in_is_left_as_it_was():
    model = convolutional()
    before = [weight.copy() for weight in model.get_weights()]
    fake_quantized(model, images(8))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.floats(-50, 0), st.floats(0.01, 50))
def test_nudged_is_the_range_that_tensorflow_uses(least, most):
    import tensorflow as tf

    classes = custom_objects()
    layer = classes["QuantizeLayer"](
        classes["MovingAverageQuantizer"](8, per_axis=False, symmetric=False, narrow_range=False), name="range"
    )
    layer(tf.zeros((1, 1)))
    layer.quantizer_vars["min_var"].assign(least)
    layer.quantizer_vars["max_var"].assign(most)
    low, high = nudged(layer)
    ends = layer(tf.constant([[-1000.0], [1000.0], [0.0]]), training=False).numpy().ravel()
    step = (high - low) / 255
    np.testing.assert_allclose(ends[:2], [low, high], atol=1.01 * step if abs(-least / step % 1 - 0.5) < 1e-3 else 1e-3)
    assert abs(ends[2]) < 1e-5  # zero is one of the steps


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_kernels_and_biases_are_what_files_can_hold(tmp_path, target):
    import tensorflow as tf

    from tasks.formats import FORMATS

    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    inputs = tf.keras.Input((12, 12, 3), name="input")
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(inputs)
    # two output channels of one input channel, unlike in size; biases all alike, which the TFLite converter keeps
    # in the first channel's unit
    x = layers.DepthwiseConv2D(
        3, depth_multiplier=2, activation="relu", bias_initializer=tf.keras.initializers.Constant(0.01), name="deep"
    )(x)
    model = tf.keras.Model(inputs, layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D(name="mean")(x)))
    kernel, bias = model.get_layer("deep").get_weights()
    kernel[..., 1] *= 0.3
    model.get_layer("deep").set_weights([kernel, bias])
    x = np.random.default_rng(0).uniform(0, 1, (256, 12, 12, 3)).astype(np.float32)
    quantized = fake_quantized(model, x)
    FORMATS[target].write(quantized, tmp_path, "int8", classes=())
    assert FORMATS[target].audit(tmp_path, x[:1]).integer_share == 1.0
    expected = quantized.predict(x, verbose=0)
    step = np.ptp(expected) / 255
    assert np.abs(FORMATS[target].load(tmp_path)(x) - expected).max() < 0.01 * step
