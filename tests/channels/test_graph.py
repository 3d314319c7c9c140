"""Which channels go together, by hand; and what is left when some go, value by value."""

import numpy as np
import pytest

from tasks.channels.graph import graph_of
from tasks.channels.shrink import widths


@pytest.fixture(scope="module")
def layers():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    return tf.keras.layers


def model_of(inputs, outputs):
    import tensorflow as tf

    return tf.keras.Model(inputs, outputs)


def image(channels=3, size=6):
    import tensorflow as tf

    return tf.keras.Input((size, size, channels), name="input")


def groups(model):
    graph = graph_of(model)
    return {makers: len(group) for makers, group in zip(graph.makers, graph.groups, strict=True)}


def test_a_chain_has_a_group_for_each_hidden_layer(layers):
    x = inputs = image()
    x = layers.Conv2D(4, 3, name="a")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="d")(x)
    x = layers.Conv2D(5, 1, name="b")(x)
    x = layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x))
    assert groups(model_of(inputs, x)) == {("a", "d"): 4, ("b",): 5}


def test_what_meets_in_a_residual_goes_together(layers):
    x = inputs = image()
    x = layers.Conv2D(4, 1, name="a")(x)
    y = layers.Conv2D(4, 1, name="b")(x)
    x = layers.Add()([x, y])
    z = layers.Conv2D(4, 1, name="c")(x)
    x = layers.Multiply()([x, z])
    out = layers.Conv2D(2, 1, name="out")(x)
    assert groups(model_of(inputs, out)) == {("a", "b", "c"): 4}


def test_what_meets_the_input_or_leaves_stays(layers):
    inputs = image(channels=4)
    x = layers.Conv2D(4, 1, name="a")(inputs)
    x = layers.Add()([inputs, x])
    x = layers.Conv2D(6, 1, name="b")(x)
    graph = graph_of(model_of(inputs, x))
    assert graph.units == 0
    assert graph.kept_whole == {}


def test_branches_side_by_side_keep_their_own_channels(layers):
    x = inputs = image()
    a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
    both = layers.Concatenate()([a, b])
    c = layers.Conv2D(5, 1, name="c")(both)
    out = layers.Conv2D(2, 1, name="out")(layers.Add()([both, c]))
    graph = graph_of(model_of(inputs, out))
    assert dict(zip(graph.makers, map(len, graph.groups), strict=True)) == {("a", "c"): 2, ("b", "c"): 3}
    np.testing.assert_array_equal(graph.ends["c"].outputs, [0, 1, 2, 3, 4])


def test_a_gate_of_one_channel_for_all_ties_none_of_them(layers):
    x = inputs = image()
    x = layers.Conv2D(4, 1, name="a")(x)
    gate = layers.Conv2D(1, 1, activation="sigmoid", name="gate")(x)
    out = layers.Conv2D(2, 1, name="out")(layers.Multiply()([x, gate]))
    assert groups(model_of(inputs, out)) == {("a",): 4}


def test_flatten_and_reshape_are_followed(layers):
    x = inputs = image(size=2)
    x = layers.Conv2D(3, 1, name="a")(x)
    squeezed = layers.Reshape((1, 1, 3), name="squeezed")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, squeezed])
    flat = layers.Flatten(name="flat")(x)
    out = layers.Dense(2, name="out")(flat)
    model = model_of(inputs, out)
    graph = graph_of(model)
    np.testing.assert_array_equal(graph.ends["out"].inputs, [0, 1, 2] * 4)
    cut = graph.cut(np.array([True, False, True]))
    np.testing.assert_array_equal(
        cut.get_layer("out").kernel, model.get_layer("out").kernel[:].numpy()[[0, 2, 3, 5, 6, 8, 9, 11]]
    )
    assert cut.get_layer("squeezed").target_shape == (1, 1, 2)


def test_a_reshape_that_tears_channels_apart_keeps_them(layers):
    x = inputs = image(size=2)
    x = layers.Conv2D(4, 1, name="a")(x)
    out = layers.Dense(2, name="out")(layers.Reshape((4, 2, 2), name="torn")(x))
    graph = graph_of(model_of(inputs, out))
    assert graph.units == 0
    assert list(graph.kept_whole) == ["torn"]


def test_a_group_of_a_grouped_convolution_goes_as_a_whole(layers):
    x = inputs = image()
    x = layers.Conv2D(6, 1, name="a")(x)
    x = layers.Conv2D(9, 3, groups=3, name="grouped")(x)
    out = layers.Conv2D(2, 1, name="out")(x)
    model = model_of(inputs, out)
    graph = graph_of(model)
    assert graph.units == 3
    np.testing.assert_array_equal(graph.ends["grouped"].inputs, [0, 0, 1, 1, 2, 2])
    cut = graph.cut(np.array([True, False, True]))
    assert cut.get_layer("grouped").groups == 2
    np.testing.assert_array_equal(
        cut.get_layer("grouped").kernel, model.get_layer("grouped").kernel.numpy()[..., [0, 1, 2, 6, 7, 8]]
    )


@pytest.mark.parametrize("name", ["LayerNormalization", "UnitNormalization", "Softmax"])
def test_what_looks_at_all_channels_at_once_keeps_them_and_is_named(layers, name):
    x = inputs = image()
    x = layers.Conv2D(4, 1, name="a")(x)
    x = getattr(layers, name)(name="norm")(x)
    out = layers.Conv2D(2, 1, name="out")(x)
    graph = graph_of(model_of(inputs, out))
    assert graph.units == 0
    assert list(graph.kept_whole) == ["norm"]


def test_a_softmax_inside_a_layer_keeps_its_channels(layers):
    inputs = image()
    x = layers.Conv2D(5, 1, name="before")(inputs)
    x = layers.Conv2D(4, 1, activation="softmax", name="a")(x)
    graph = graph_of(model_of(inputs, layers.Conv2D(2, 1, activation="softmax", name="out")(x)))
    assert graph.makers == (("before",),), "what it reads may go"
    assert list(graph.kept_whole) == ["a"], "of the output nothing could have gone"


def test_a_layer_that_is_used_twice_has_the_same_channels_both_times(layers):
    x = inputs = image()
    x = layers.Conv2D(4, 1, name="a")(x)
    twice = layers.Conv2D(4, 1, name="twice")
    out = layers.Conv2D(2, 1, name="out")(twice(twice(x)))
    assert groups(model_of(inputs, out)) == {("a", "twice"): 4}


def test_weights_are_sliced_where_the_channels_are(layers):
    """Every kind of kernel, against indexing by hand."""
    x = inputs = image(channels=2)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.PReLU(shared_axes=(1, 2), name="prelu")(layers.BatchNormalization(name="norm")(x))
    x = layers.SeparableConv2D(3, 2, depth_multiplier=2, name="separable")(x)
    x = layers.Conv2DTranspose(5, 2, name="transposed")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(x)
    out = layers.Dense(2, name="out")(layers.GlobalMaxPooling2D()(x))
    model = model_of(inputs, out)
    graph = graph_of(model)
    assert graph.units == 4 + 3 + 5
    stays = np.ones(12, bool)
    stays[[1, 5, 8, 9]] = False  # conv 1; separable 1; transposed 1 and 2
    cut = graph.cut(stays)
    conv, separable, transposed = [0, 2, 3], [0, 2], [0, 3, 4]
    doubled, deep = [0, 1, 4, 5, 6, 7], [0, 1, 6, 7, 8, 9]

    def weights(name):
        return model.get_layer(name).get_weights(), cut.get_layer(name).get_weights()

    for name, of_these in {
        "conv": lambda kernel, bias: [kernel[..., conv], bias[conv]],
        "norm": lambda *four: [each[conv] for each in four],
        "prelu": lambda alpha: [alpha[..., conv]],
        "separable": lambda depth, point, bias: [
            depth[:, :, conv],
            point[:, :, doubled][..., separable],
            bias[separable],
        ],
        "transposed": lambda kernel, bias: [kernel[:, :, transposed][..., separable], bias[transposed]],
        "depthwise": lambda kernel, bias: [kernel[:, :, transposed], bias[deep]],
        "out": lambda kernel, bias: [kernel[deep], bias],
    }.items():
        before, after = weights(name)
        for kept, actual in zip(of_these(*before), after, strict=True):
            np.testing.assert_array_equal(kept, actual, err_msg=name)
    assert widths(cut) == {"conv": 3, "separable": 2, "transposed": 3, "depthwise": 6, "out": 2}


def test_settings_of_a_layer_stay(layers):
    import tensorflow as tf

    x = inputs = image()
    x = layers.Conv2D(4, 3, 2, "same", kernel_regularizer=tf.keras.regularizers.L2(0.1), dilation_rate=1, name="a")(x)
    cut = graph_of(model_of(inputs, layers.Conv2D(2, 1, name="out")(x))).cut(np.array([True, True, True, False]))
    before, after = x.node.layer.get_config(), cut.get_layer("a").get_config()
    assert {**before, "filters": 3} == after


def test_nested_models_are_followed_from_inside(layers):
    inner_input = image(channels=4)
    inner = model_of(inner_input, layers.Conv2D(5, 1, name="inside")(inner_input))
    inputs = image()
    x = layers.Conv2D(4, 1, name="a")(inputs)
    out = layers.Conv2D(2, 1, name="out")(inner(x))
    assert sorted(map(len, graph_of(model_of(inputs, out)).groups)) == [4, 5]
