"""Activations that are layers, operations, partials or code: the answers that Keras gives, or a refusal by name."""

import functools

import numpy as np
import pytest

from tasks.contract.errors import ConversionError
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.keras_graph.activations import activation_name
from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.rebuild import flat, kind
from tasks.quantization.fake_quantization import fake_quantized

X = np.random.default_rng(0).normal(0, 2, (64, 6)).astype(np.float32)


def relu(x):
    """Not Keras' one."""
    return abs(x) * 0.5


def activations():
    import tensorflow as tf

    layers = tf.keras.layers
    return {
        "leaky layer": (layers.LeakyReLU(0.1), "LeakyReLU"),
        "layer with weights": (layers.PReLU("uniform"), "PReLU"),
        "relu layer": (layers.ReLU(6.0), "ReLU"),
        "softmax layer": (layers.Softmax(), "softmax"),
        "tf.nn.softmax": (tf.nn.softmax, "softmax"),
        "tf.nn.relu6": (tf.nn.relu6, "relu6"),
        "tf.sigmoid": (tf.sigmoid, "sigmoid"),
        "tf.nn.leaky_relu": (tf.nn.leaky_relu, "leaky_relu"),
        "partial": (functools.partial(tf.nn.leaky_relu, alpha=0.3), "LeakyReLU"),
        "partial of Keras' relu": (functools.partial(tf.keras.activations.relu, max_value=1.0), "ReLU"),
        "lambda": (lambda x: x * abs(x), "Lambda"),
        "of one's own by a known name": (relu, "Lambda"),
    }


NAMES = (
    *("leaky layer", "layer with weights", "relu layer", "softmax layer", "tf.nn.softmax", "tf.nn.relu6", "tf.sigmoid"),
    *("tf.nn.leaky_relu", "partial", "partial of Keras' relu", "lambda", "of one's own by a known name"),
)


def model_of(activation, *, norm=True):
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input((6,), name="input")
    x = layers.Dense(8, activation=activation, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    x = layers.Activation(activation, name="alone")(layers.Dense(8, name="second")(x))
    return tf.keras.Model(inputs, layers.Dense(8, activation=activation, name="last")(x))


def test_there_is_a_test_of_each():
    assert set(NAMES) == set(activations())


@pytest.mark.parametrize("name", NAMES)
def test_taken_apart_it_answers_as_before(name, tmp_path):
    activation, known = activations()[name]
    model = model_of(activation)
    plain = flat(model)
    if known[0].islower():
        assert activation_name(plain.get_layer("first").activation) == known
    else:
        assert kind(plain.get_layer("first_activation")) == known
        if name != "layer with weights":  # which is one layer, called three times
            assert kind(plain.get_layer("alone")) == known
    for again in (plain, fold(model), split(fold(model))):
        np.testing.assert_allclose(again(X), model(X), rtol=1e-5, atol=1e-6)
    assert np.abs(fake_quantized(model, X)(X) - model(X)).max() < 0.1 * np.ptp(model(X))
    keras.write(plain, tmp_path)
    np.testing.assert_allclose(keras.load(tmp_path)(X), model(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["leaky layer", "layer with weights", "partial", "tf.nn.softmax"])
def test_files_answer_as_keras_does(name, tmp_path):
    model = model_of(activations()[name][0])
    for target in ("onnxruntime", "litert"):
        for precision, source, near in (("float32", model, 1e-4), ("int8", fake_quantized(model, X), 0.1)):
            place = tmp_path / f"{target}-{precision}"
            place.mkdir()
            FORMATS[target].write(source, place, precision, classes=())
            error, reach = np.abs(FORMATS[target].load(place, 1)(X) - model(X)).max(axis=0), np.ptp(model(X), axis=0)
            reach = reach if precision == "float32" else reach.max()  # in integers all channels have one range
            assert (error < near * reach).all(), (target, precision, error / reach)


def test_a_softmax_is_one_whatever_it_is_written_as():
    for name in ("softmax layer", "tf.nn.softmax"):
        model = model_of(activations()[name][0])
        assert signature_names(model)[1] == signature_names(fake_quantized(model, X))[1] == ["probabilities"]


def test_a_known_name_is_no_known_function():
    import tensorflow as tf

    assert activation_name(tf.keras.activations.relu) == activation_name(tf.nn.relu) == "relu"
    assert activation_name(relu) == activation_name(lambda x: x) == activation_name(functools.partial(relu)) == ""


def test_a_layer_that_is_shared_as_an_activation_stays_shared_where_it_has_weights():
    import tensorflow as tf

    plain = flat(model_of(tf.keras.layers.PReLU("uniform")))
    assert len([layer for layer in plain.layers if kind(layer) == "PReLU"]) == 1
    plain = flat(model_of(tf.keras.layers.LeakyReLU(0.2)))
    assert len([layer for layer in plain.layers if kind(layer) == "LeakyReLU"]) == 3


@pytest.mark.parametrize("masked", [True, False])
def test_recurrent_layers_keep_activations_that_are_layers(masked):
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((4, 3), name="input")
    x = layers.Masking()(inputs) if masked else inputs
    x = layers.LSTM(5, activation=layers.LeakyReLU(0.1), name="lstm")(x)
    model = tf.keras.Model(inputs, layers.Dense(2)(x))
    x = np.resize(X, (16, 4, 3))
    np.testing.assert_allclose(fold(model)(x), model(x), rtol=1e-5, atol=1e-6)


def test_code_that_no_file_holds_is_refused_with_the_way_out():
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((4, 3), name="input")
    recurrent = tf.keras.Model(inputs, layers.GRU(3, activation=relu, name="gru")(inputs))
    with pytest.raises(ConversionError, match=r"'gru' \(GRU\) has relu as its activation.*'tanh'"):
        flat(recurrent)
    table = tf.constant([1.0, 2.0])
    with pytest.raises(ConversionError, match=r"'first' has <lambda> as its activation.*LeakyReLU"):
        flat(model_of(lambda x: x * table[0]))
