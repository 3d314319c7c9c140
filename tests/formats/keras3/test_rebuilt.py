"""Models of Keras 3 come out as models of Keras 2 with the same answers, or say which layer stands in the way."""

import numpy as np
import pytest
from small_keras3 import SHAPE, X, answers, head, settled, small

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as format_keras
from tasks.formats.keras3 import files as keras3
from tasks.keras_graph.names import signature_names
from tasks.zoo import ModelConfig, build_model, check_model


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


# Layers and activations: an example's shape, and what is made of an input
IMAGE, SEQUENCE, VECTOR = (8, 8, 3), (6, 4), (5,)
TABLE = np.random.default_rng(4).uniform(0.5, 1.5, SEQUENCE).astype(np.float32)
KINDS = {
    "dense": (VECTOR, lambda la, k, x: la.Dense(4, activation="silu", kernel_regularizer="l2")(x)),
    "conv1d": (SEQUENCE, lambda la, k, x: la.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)),
    "conv1d transposed": (SEQUENCE, lambda la, k, x: la.Conv1DTranspose(4, 3, strides=2)(x)),
    "conv2d in groups": (IMAGE, lambda la, k, x: la.Conv2D(6, 3, groups=3, activation="gelu")(x)),
    "conv2d transposed": (IMAGE, lambda la, k, x: la.Conv2DTranspose(4, 3, strides=2, padding="same")(x)),
    "depthwise": (IMAGE, lambda la, k, x: la.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x)),
    "depthwise 1d": (SEQUENCE, lambda la, k, x: la.DepthwiseConv1D(3)(x)),
    "separable": (IMAGE, lambda la, k, x: la.SeparableConv2D(4, 3, activation="elu")(x)),
    "separable 1d": (SEQUENCE, lambda la, k, x: la.SeparableConv1D(4, 3)(x)),
    "batch norm": (IMAGE, lambda la, k, x: la.BatchNormalization(axis=2, epsilon=0.01, scale=False)(x)),
    "layer norm": (IMAGE, lambda la, k, x: la.LayerNormalization(axis=[1, 2])(x)),
    "group norm": (IMAGE, lambda la, k, x: la.GroupNormalization(3)(x)),
    "layer scale": (IMAGE, lambda la, k, x: k.src.applications.convnext.LayerScale(0.3, x.shape[-1])(x)),  # ConvNeXt's
    "unit norm": (IMAGE, lambda la, k, x: la.UnitNormalization()(x)),
    "normalization, given": (IMAGE, lambda la, k, x: la.Normalization(mean=[1.0, 2, 3], variance=[1.0, 4, 9])(x)),
    "normalization, learnt": (IMAGE, lambda la, k, x: la.Normalization()(x)),
    "rescaling and resizing": (IMAGE, lambda la, k, x: la.Resizing(5, 7)(la.Rescaling(1 / 255, -0.5)(x))),
    "upsampling": (IMAGE, lambda la, k, x: la.UpSampling2D(2, interpolation="bilinear")(x)),
    "padding and cropping": (IMAGE, lambda la, k, x: la.Cropping2D(((1, 0), (2, 1)))(la.ZeroPadding2D((2, 1))(x))),
    "padding 1d": (SEQUENCE, lambda la, k, x: la.Cropping1D((0, 1))(la.ZeroPadding1D((1, 2))(x))),
    "pooling": (IMAGE, lambda la, k, x: la.AveragePooling2D(2, padding="same")(la.MaxPooling2D(3, 1)(x))),
    "pooling 1d": (SEQUENCE, lambda la, k, x: la.AveragePooling1D(2)(la.MaxPooling1D(2, 1)(x))),
    "global": (IMAGE, lambda la, k, x: la.GlobalMaxPooling2D(keepdims=True)(x)),
    "reshape": (IMAGE, lambda la, k, x: la.Flatten()(la.Permute((2, 3, 1))(la.Reshape((4, 16, 3))(x)))),
    "merge": (IMAGE, lambda la, k, x: la.Concatenate(axis=2)([la.Average()([x, x]), la.Subtract()([x, x])])),
    "gate": (IMAGE, lambda la, k, x: la.Multiply()([x, la.GlobalAveragePooling2D(keepdims=True)(x)])),
    "relu": (IMAGE, lambda la, k, x: la.ReLU(6.0, negative_slope=0.1, threshold=0.2)(x)),
    "leaky relu": (IMAGE, lambda la, k, x: la.LeakyReLU(0.15)(la.PReLU(shared_axes=[1, 2])(x))),
    "hard activations": (IMAGE, lambda la, k, x: la.Activation("hard_silu")(la.Dense(4, activation="hard_sigmoid")(x))),
    "leaky activation": (IMAGE, lambda la, k, x: la.Dense(4, activation="leaky_relu")(x)),
    "layer as activation": (IMAGE, lambda la, k, x: la.Conv2D(4, 3, activation=la.LeakyReLU(0.3))(x)),
    "softmax": (IMAGE, lambda la, k, x: la.Softmax(axis=1)(x)),
    "dropouts": (IMAGE, lambda la, k, x: la.SpatialDropout2D(0.5)(la.GaussianNoise(0.5)(la.Dropout(0.5, seed=3)(x)))),
    "augmentation": (IMAGE, lambda la, k, x: la.RandomZoom(0.2)(la.RandomRotation(0.1)(la.RandomFlip(seed=1)(x)))),
    "lstm": (SEQUENCE, lambda la, k, x: la.LSTM(4, dropout=0.2)(la.LSTM(3, return_sequences=True)(x))),
    "gru": (SEQUENCE, lambda la, k, x: la.GRU(4, reset_after=False)(la.GRU(3, return_sequences=True)(x))),
    "rnn": (SEQUENCE, lambda la, k, x: la.SimpleRNN(4, activation="relu", go_backwards=True)(x)),
    "bidirectional": (SEQUENCE, lambda la, k, x: la.Bidirectional(la.GRU(3), merge_mode="sum")(x)),
    "a model at a time": (
        SEQUENCE,
        lambda la, k, x: la.TimeDistributed(
            k.Sequential([k.Input(SEQUENCE[1:]), la.Dense(5, activation="relu"), la.Dense(3)])
        )(x),
    ),
    "a step at a time": (SEQUENCE, lambda la, k, x: la.TimeDistributed(la.Dense(3, activation="tanh"))(x)),
    "embedding": (VECTOR, lambda la, k, x: la.GRU(4)(la.Embedding(9, 3, mask_zero=True)(x))),
    "attention": (SEQUENCE, lambda la, k, x: la.MultiHeadAttention(2, 3)(x, x)),
    "constants": (IMAGE, lambda la, k, x: 1.0 - (x * 0.5 + 3.0) / 2.0 - np.float32([1, 2, 3])),
    "operations": (IMAGE, lambda la, k, x: k.ops.relu(x) + k.ops.sigmoid(x) * k.ops.tanh(x) - k.ops.softmax(x, 2)),
    "moves": (IMAGE, lambda la, k, x: k.ops.transpose(k.ops.reshape(x, (-1, 24, 8)), (0, 2, 1))),
    "means": (
        IMAGE,
        lambda la, k, x: k.ops.mean(x, (1, 2)) + k.ops.squeeze(k.ops.expand_dims(k.ops.max(x, (1, 2)), 1), 1),
    ),
    "places": (IMAGE, lambda la, k, x: x[:, 1:7:2, None, ..., ::-1] + x[..., 2][:, 0, None, None, :, None]),
    "numbers for each place": (
        SEQUENCE,
        lambda la, k, x: k.ops.divide(TABLE, x * TABLE + 9.0) - (x - TABLE) * TABLE + 1.0 / (x + 3.0) + x / TABLE,
    ),
    "side by side": (SEQUENCE, lambda la, k, x: k.ops.stack([x[:, 0], x[:, -1], x[:, 2]], axis=-1)),
    "elementwise": (
        VECTOR,
        lambda la, k, x: (
            k.ops.log1p(x)
            + k.ops.sqrt(x + 1.0)
            - k.ops.square(k.ops.abs(x)) / 9.0
            + k.ops.expm1(-x)
            + k.ops.sin(x)
            + k.ops.cos(x) * k.ops.sign(x)
            + k.ops.log(x + 2.0) * k.ops.rsqrt(x + 1.0)
            + k.ops.clip(x, 1.0, 3.0)
            + x**1.5
        ),
    ),
    "operations of activations": (
        VECTOR,
        lambda la, k, x: la.Concatenate()(
            [
                k.ops.celu(x - 4.0, 0.7),
                k.ops.glu((x - 4.0)[:, :4]),
                k.ops.soft_shrink(x - 4.0, 0.3),
                k.ops.hard_shrink(x - 4.0, 2.0),
                k.ops.squareplus(x - 4.0, 3),
                k.ops.log_softmax(x),
                k.ops.sparsemax(x / 4.0),
            ]
        ),
    ),
    "cells": (
        SEQUENCE,
        lambda la, k, x: la.RNN(la.StackedRNNCells([la.GRUCell(3), la.LSTMCell(4)]), return_sequences=True)(x),
    ),
    "attention of scores": (
        SEQUENCE,
        lambda la, k, x: la.AdditiveAttention()([x, la.Attention(use_scale=True)([x, x])]),
    ),
    "frames": ((3, 6, 6, 2), lambda la, k, x: la.Bidirectional(la.ConvLSTM2D(2, 3, return_sequences=True))(x)),
    "rms norm": (IMAGE, lambda la, k, x: la.RMSNormalization(epsilon=0.1)(x)),
    "spectral norm": (IMAGE, lambda la, k, x: la.SpectralNormalization(la.Conv2D(4, 3, activation="hard_tanh"))(x)),
    "a step at a time, activated": (
        SEQUENCE,
        lambda la, k, x: la.TimeDistributed(la.Dense(3, activation=la.LeakyReLU(0.3)))(
            la.TimeDistributed(la.Dense(3, activation="squareplus"))(x - 4.0)
        ),
    ),
    "adaptive pooling": (
        IMAGE,
        lambda la, k, x: la.Concatenate()([la.AdaptiveAveragePooling2D((3, 4))(x), la.AdaptiveMaxPooling2D((3, 4))(x)]),
    ),
    "hard operations": (IMAGE, lambda la, k, x: k.ops.concatenate([k.ops.hard_silu(x), k.ops.relu6(-x)], -1)),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_layer_is_rebuilt(name, keras):
    shape, layers = KINDS[name]
    inputs = keras.Input(shape, name="input")
    source = settled(keras.Model(inputs, layers(keras.layers, keras, inputs), name="kind"))
    model = keras3.rebuilt(source, name, "teacher.model")
    assert type(model).__module__.startswith("tf_keras.")
    x = np.random.default_rng(2).integers(0, 9, (3, *shape)).astype(np.float32)
    for actual, expected in zip(answers(model, x), answers(source, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert {layer.name for layer in source.layers} <= {layer.name for layer in model.layers}


def test_a_graph_of_all_sorts_is_rebuilt(keras):
    """Nested, shared, several inputs and outputs, states that go from layer to layer."""
    layers = keras.layers
    one, two = keras.Input(SHAPE, name="one"), keras.Input((4,), name="two")
    within = keras.Input(SHAPE)
    inner = keras.Model(within, layers.Conv2D(3, 3, padding="same", name="conv")(within), name="inner")
    chain = keras.Sequential([layers.Dense(3), layers.BatchNormalization(), layers.Dense(3)], name="chain")
    x = chain(inner(inner(one)), training=False)
    rows = layers.Reshape((8, 24), name="rows")(x)
    last, *states = layers.LSTM(4, return_state=True, name="first")(rows)
    second = layers.LSTM(4, name="second")(rows, initial_state=states)
    both = layers.Concatenate(name="both")([last, two])
    source = settled(keras.Model({"a": one, "b": two}, {"x": both, "y": second}, name="sorts"))
    model = keras3.rebuilt(source, "sorts", "model")
    inputs = {"a": X, "b": X[:, 0, 0, :1] * np.ones(4, np.float32)}
    actual, expected = model(inputs), source(inputs)
    assert set(actual) == set(expected) == {"x", "y"}
    for key in expected:
        np.testing.assert_allclose(actual[key], expected[key], rtol=1e-5, atol=1e-5)
    plain = format_keras.plain(source, "sorts", "model")
    assert signature_names(plain) == (["a", "b"], ["x", "y"])


def test_one_input_may_give_several_outputs_and_keep_their_order(keras):
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4)
    source = settled(keras.Model(inputs, [dense(dense(inputs)), dense(inputs), inputs]))
    model = keras3.rebuilt(source, "several", "model")
    x = X[:, 0, 0, :1] * np.ones(4, np.float32)
    for actual, expected in zip(answers(model, x), answers(source, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_rebuilt_can_be_kept_and_opened_again(name, tmp_path, keras):
    """As every stage hands it on: what Keras 2 calls layers with has to have a place in a file."""
    from tasks.formats.keras import files as keras2

    shape, call = KINDS[name]
    inputs = keras.Input(shape)
    source = keras.Model(inputs, call(keras.layers, keras, inputs), name="kind")
    model = keras2.plain(source, name, "teacher.model")
    keras2.write(model, tmp_path)
    x = np.random.default_rng(0).integers(0, 8, (4, *shape)).astype(np.float32)
    np.testing.assert_array_equal(keras2.load(tmp_path)(x, training=False), model(x, training=False))


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_other_precisions_are_rebuilt_in_float32(policy, keras):
    source = settled(small(dtype=policy))
    model = keras3.rebuilt(source, "mixed", "model")
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    np.testing.assert_allclose(answers(model, X)[0], answers(source, X)[0], atol=0.02)


def test_a_function_may_give_a_model_of_keras_3(tmp_path, monkeypatch, keras):
    (tmp_path / "theirs3.py").write_text(
        "import keras\n"
        "def build(input_shape, output_shape):\n"
        "    layers = [keras.layers.Flatten(), keras.layers.Dense(output_shape[0])]\n"
        "    return keras.Sequential([keras.Input(input_shape), *layers])\n"
        "def subclass():\n"
        "    class Own(keras.Model):\n"
        "        def call(self, x):\n"
        "            return x\n"
        "    return Own(name='own')\n"
    )
    monkeypatch.chdir(tmp_path)
    check_model(ModelConfig(model="theirs3:build"), {ONE: SHAPE}, [head()])
    digits = open_data(DataConfig(reader="digits", limit=100))
    one = build_model(ModelConfig(model="theirs3:build"), digits, seed=3)
    keras.layers.Dense(3)  # names and first weights do not depend on what else is built
    two = build_model(ModelConfig(model="theirs3:build"), digits, seed=3)
    assert [layer.name for layer in one.layers] == [layer.name for layer in two.layers]
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ModelError, match=r"Own of Keras 3 that does not know the shape.*functional API"):
        check_model(ModelConfig(model="theirs3:subclass"), {ONE: SHAPE}, [head()])


UNLIKE = {
    "a layer": (lambda la, k, x: la.GroupQueryAttention(3, 4, 2, name="n")(x[:, 0], x[:, 1]), r"'n' .*has no like"),
    "an activation": (
        lambda la, k, x: la.GRU(3, "squareplus", name="g")(la.Reshape((8, 24))(x)),
        r"'g' \(GRU\) has the activation 'square",
    ),
    "an activation of a wrong shape": (
        lambda la, k, x: la.Conv2D(4, 3, activation="glu", name="c")(x),
        r"'c' \(Conv2D\) has the activation 'glu'.*call keras.ops.glu",
    ),
    "inside a wrapper": (
        lambda la, k, x: la.Bidirectional(la.GRU(3, "celu"), name="b")(la.Reshape((8, 24))(x)),
        r"'b' \(Bidirectional\) holds 'forward_\w+' \(GRU\) has the activation 'celu', which Keras 2 does not have",
    ),
    "the other way": (
        lambda la, k, x: la.ReversibleEmbedding(9, 3, name="r")(x, reverse=True),
        r"'r' \(ReversibleEmbedding\) is called with reverse=True",
    ),
    "an axis": (
        lambda la, k, x: la.RMSNormalization(axis=[2, 3], name="n")(x),
        r"'n' \(RMSNormalization\).*last axis alone",
    ),
    "another of that name": (
        lambda la, k, x: la.GRU(3, recurrent_activation="hard_sigmoid", name="g")(la.Reshape((8, 24))(x)),
        r"'g' \(GRU\) has the recurrent_activation 'hard_sigmoid'.*or has another",
    ),
    "a setting that asks for too much": (
        lambda la, k, x: la.Pipeline([la.Rescaling(1 << 20)], name="p")(x),
        r"'p' \(Pipeline\) has no like",
    ),
    "inside another": (
        lambda la, k, x: k.Sequential([la.RMSNormalization(axis=[2, 3], name="a")], name="s")(x),
        r"'a' \(RMSNormalization\)",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_has_no_like_is_named_and_let_in_when_it_is_trusted(name, tmp_path, keras):
    layers, message = UNLIKE[name]
    inputs = keras.Input((8, 3) if name == "the other way" else SHAPE, name="input")
    source = settled(keras.Model(inputs, layers(keras.layers, keras, inputs), name="unlike"))
    source.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match=message + ".*set trust: true"):
        format_keras.import_model(tmp_path / "model.keras", trust=False)
    if "glu" in message:  # of which Keras 3 itself says another shape than it gives
        with pytest.raises(ModelError, match="cannot be"):
            format_keras.import_model(tmp_path / "model.keras", trust=True)
        return
    model = format_keras.import_model(tmp_path / "model.keras", trust=True)
    x = X[:, 0] if name == "the other way" else X
    np.testing.assert_allclose(answers(model, x)[0], answers(source, x)[0], rtol=1e-4, atol=1e-5)


ACROSS = {
    "a place of the batch": lambda k, x: x[:1, 0],
    "numbers for each example": lambda k, x: x + np.ones((4, 8, 8, 3), np.float32),
    "a shape": lambda k, x: k.ops.reshape(x, (-1, 3)),
    "all at once": lambda k, x: k.ops.sort(x, axis=0),
}


@pytest.mark.parametrize("name", ACROSS)
def test_operations_across_the_batch_are_refused(name, keras):
    inputs = keras.Input(SHAPE, name="input")
    source = keras.Model(inputs, ACROSS[name](keras, inputs), name="across")

    def brought():
        model = format_keras.plain(source, "across", "model")
        return format_keras.fitted(model, {ONE: SHAPE}, [head(tuple(model.output.shape[1:]))], "across", "model")

    with pytest.raises(ModelError, match=r"together with others|examples at once"):
        brought()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "ConvLSTM1D"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_remembers_the_call_before_is_refused(kind, wrapped, keras):
    layers = keras.layers
    inputs = keras.Input((3, 6, 4) if kind == "ConvLSTM1D" else (6, 4), 2)
    layer = getattr(layers, kind)(3, *([3] if kind == "ConvLSTM1D" else []), stateful=True, name="memory")
    source = keras.Model(inputs, (layers.Bidirectional(layer, name="both") if wrapped else layer)(inputs))
    with pytest.raises(ModelError, match=f"'{'both' if wrapped else 'memory'}' .*is stateful.*stateful=False"):
        keras3.rebuilt(source, "memory", "model")


def test_a_layer_that_answers_otherwise_is_found(keras):
    """What is random cannot be the same."""
    import tensorflow as tf

    layers = keras.layers
    within = keras.Input(SHAPE)
    noise = layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x)), output_shape=SHAPE, name="noise")
    inner = keras.Model(within, noise(within), name="inner")
    inputs = keras.Input(SHAPE)
    source = keras.Model(inputs, layers.Conv2D(3, 3, name="after")(inner(layers.ReLU(name="fine")(inputs))))
    with pytest.raises(ModelError, match=r"first at its layer 'inner', in that: .*'noise' \(Lambda\)"):
        keras3.rebuilt(source, "random", "model")
