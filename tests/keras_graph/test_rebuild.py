import numpy as np
import pytest
from small_models import convolutional, images, settle_norms

from tasks.contract.errors import ConversionError
from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.rebuild import Copies, flat, kind, rebuild
from tasks.quantization.placement import Placement


def kinds(model):
    return [kind(layer) for layer in model.layers]


def test_a_rebuilt_model_is_another_one_with_the_same_answers():
    model, copies = convolutional(), Copies()
    again = rebuild(model, lambda call: copies.call(call.layer, call.args, call.kwargs))
    x = images(4)
    np.testing.assert_array_equal(again(x), model(x))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    before = model(x).numpy()
    again.get_layer("logits").kernel.assign(np.eye(12, 5))
    np.testing.assert_array_equal(model(x), before)  # nothing of it is shared
    assert np.abs(again(x).numpy() - before).max() > 0.01
    assert not {id(layer) for layer in again.layers} & {id(layer) for layer in model.layers}


def test_nested_models_take_their_place():
    import tensorflow as tf

    layers = tf.keras.layers
    inner_input = tf.keras.Input((4,), name="inner_input")
    inner = tf.keras.Model(inner_input, layers.Dense(4, name="dense")(inner_input), name="inner")
    inputs = tf.keras.Input((4,), name="input")
    model = tf.keras.Model(inputs, inner(inner(inputs)), name="outer")  # shared as well
    plain = flat(model)
    assert [layer.name for layer in plain.layers] == ["input", "inner_dense"]
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(plain(x), model(x), rtol=1e-6)


def test_a_subclassed_model_is_refused_with_the_way_out():
    import tensorflow as tf

    class Own(tf.keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ConversionError, match=r"'own' \(Own\) is not a graph of layers.*functional API"):
        flat(Own(name="own"))


def test_batch_normalisations_go_into_kernels_whatever_they_follow():
    model = convolutional()
    folded = fold(model)
    assert "BatchNormalization" not in kinds(folded)
    assert "Dropout" not in kinds(folded)
    x = images(16)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_normalisation_after_a_separable_convolution_goes_into_its_last_kernel(bias, rank):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3)[-rank - 1 :], name="input")
    separable = getattr(layers, f"SeparableConv{rank}D")(4, 3, use_bias=bias, name="separable")
    model = settle_norms(tf.keras.Model(inputs, layers.BatchNormalization(name="norm")(separable(inputs))))
    folded = fold(model)
    assert kinds(folded) == ["InputLayer", f"SeparableConv{rank}D"]
    x = np.random.default_rng(0).normal(size=(3, *inputs.shape[1:])).astype(np.float32)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)


BEFORE = {
    "dense": lambda layers: layers.Dense(6, name="before"),
    "conv": lambda layers: layers.Conv2D(6, 3, use_bias=False, name="before"),
    "depthwise": lambda layers: layers.DepthwiseConv2D(3, depth_multiplier=2, name="before"),
    "transposed": lambda layers: layers.Conv2DTranspose(6, 3, name="before"),
    "separable": lambda layers: layers.SeparableConv2D(6, 3, name="before"),
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_factor_for_each_channel_goes_into_the_kernel_before_it(before):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3), name="input")
    x = layers.DepthwiseConv2D(1, use_bias=False, name="factors")(BEFORE[before](layers)(inputs))
    model = settle_norms(tf.keras.Model(inputs, layers.BatchNormalization(name="norm")(x)))
    before = model.get_layer("before")
    before.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in before.get_weights()])
    model.get_layer("factors").set_weights([np.array([-2, -0.5, 0, 0.25, 1, 3], np.float32).reshape(1, 1, 6, 1)])
    folded = fold(model)
    assert kinds(folded) == ["InputLayer", kind(before)]  # and the normalisation after the factors too
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"kernel_size": 3}, {"strides": 2}, {"depth_multiplier": 2}, {"use_bias": True}, {"activation": "relu"}],
    ids=str,
)
def test_a_depthwise_convolution_that_is_more_than_factors_stays(settings):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3), name="input")
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    more = layers.DepthwiseConv2D(**{"kernel_size": 1, "use_bias": False, **settings}, name="more")
    model = tf.keras.Model(inputs, more(x))
    folded = fold(model)
    assert kinds(folded) == ["InputLayer", "Conv2D", "DepthwiseConv2D"]
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)


def test_folding_keeps_zeros():
    model = convolutional()
    stem = model.get_layer("stem")
    kernel = stem.kernel.numpy()
    kernel[np.abs(kernel) < np.median(np.abs(kernel))] = 0
    stem.kernel.assign(kernel)
    np.testing.assert_array_equal(fold(model).get_layer("stem").kernel.numpy() == 0, kernel == 0)


@pytest.mark.parametrize("between", ["activation", "second taker", "output"])
def test_a_normalisation_that_cannot_be_folded_stays(between):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((4,), name="input")
    dense = layers.Dense(4, activation="relu" if between == "activation" else None, name="dense")(inputs)
    norm = layers.BatchNormalization(name="norm")(dense)
    outputs = {"activation": norm, "second taker": layers.Add(name="add")([norm, dense]), "output": [norm, dense]}[
        between
    ]
    model = tf.keras.Model(inputs, outputs, name="kept")
    assert "BatchNormalization" in kinds(fold(model))


def test_split_leaves_one_thing_a_layer():
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3), name="input")
    x = layers.SeparableConv2D(4, 3, activation="relu", name="separable")(inputs)
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(6, name="pool")(x))
    model = tf.keras.Model(inputs, layers.Dense(2, activation="softmax", name="dense")(x), name="joined")
    parts = split(model)
    assert kinds(parts) == [
        "InputLayer",
        "DepthwiseConv2D",
        "Conv2D",
        "Activation",
        "GlobalAveragePooling2D",
        "Flatten",
        "Dense",
        "Activation",
    ]
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(parts(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "same"), (3, "same"), (1, "valid"), (3, "valid")])
def test_pooling_over_the_whole_image_is_a_mean_only_where_there_is_one_window(strides, padding):
    import tensorflow as tf

    inputs = tf.keras.Input((3, 3, 4), name="input")
    pool = tf.keras.layers.AveragePooling2D(3, strides=strides, padding=padding, name="pool")
    model = tf.keras.Model(inputs, pool(inputs))
    parts = split(model)
    assert (kinds(parts)[1] == "GlobalAveragePooling2D") == (model.output_shape == (None, 1, 1, 4))
    x = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(parts(x), model(x), rtol=1e-5, atol=1e-6)


def test_signature_names_are_the_same_whatever_the_layers_are_called():
    model = convolutional()
    assert signature_names(model) == (["input"], ["probabilities"])
    assert signature_names(fold(model)) == (["input"], ["probabilities"])


def test_a_layer_named_to_stay_in_float_does():
    model = split(fold(convolutional()))
    placement = Placement(model, ("pointwise",))
    assert not placement.integer(model.get_layer("pointwise"))
    assert placement.integer(model.get_layer("strided"))
    assert placement.feeds(model.get_layer("scale"))
    assert not placement.feeds(model.get_layer("logits"))
