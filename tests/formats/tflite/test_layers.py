"""Layers that LiteRT has no operator for, and recurrent ones, wherever they stand in a model."""

import numpy as np
import pytest

from tasks.contract.errors import ConversionError
from tasks.formats.tflite import files as tflite
from tasks.formats.tflite.graph import TFLiteGraph
from tasks.keras_graph.own_types import own_type
from tasks.quantization.fake_quantization import fake_quantized

IMAGE, FILM, SEQUENCE = (6, 7, 4), (3, 6, 7, 4), (6, 3)


def built(shape, layers, *, batch=None):
    """A model with weights that leave nothing out."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(shape, batch_size=batch, name="input")
    model = tf.keras.Model(inputs, layers(tf.keras.layers, inputs), name="small")
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0, 0.7, weight.shape) for weight in model.get_weights()])
    return model


def drawn(shape, *, ending=False):
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    for place in range(1, 5) if ending else ():
        x[place, place:] = 0
    if ending:
        x[0, 2] = 0  # a gap
    return x


def off(actual, expected):
    """The largest difference in each output channel, in shares of its range."""
    axes = tuple(range(expected.ndim - 1))
    return (np.abs(actual - expected).max(axis=axes) / np.ptp(expected, axis=axes)).max()


def check(model, x, folder):
    tflite.write(model, folder, "float32", classes=())
    expected = model(x, training=False).numpy()
    run = tflite.load(folder)
    assert off(run(x), expected) < 1e-4
    for count in (1, 2):
        np.testing.assert_allclose(run(x[:count]), expected[:count], rtol=1e-3, atol=1e-4)


def _block(la):
    import tensorflow as tf

    inputs = tf.keras.Input(IMAGE)
    x = la.GroupNormalization(2)(la.UpSampling2D(2, interpolation="bicubic")(inputs))
    x = la.Conv2D(3, 3, data_format="channels_first")(la.Permute((3, 1, 2))(x))
    return tf.keras.Model(inputs, la.LSTM(3)(la.Reshape((3, -1))(x)), name="block")


def channels_first_or_skip(build, x):
    """A model, where TensorFlow computes it: convolutions with channels first need oneDNN, which not all have.

    TensorFlow turns it on by itself where there is VNNI; `TF_ENABLE_ONEDNN_OPTS=1` does elsewhere.
    """
    import tensorflow as tf

    try:
        model = build()
        model(x[:1])
    except tf.errors.UnimplementedError as error:
        pytest.skip(f"TensorFlow has no such kernel on this processor: {str(error)[:100]}")
    return model


FILMS = {
    "a block of what is replaced": lambda la, x: la.TimeDistributed(_block(la))(x),
    "one of what is replaced": lambda la, x: la.TimeDistributed(la.Resizing(4, 5, interpolation="lanczos3"))(x),
    "steps": lambda la, x: la.TimeDistributed(la.ConvLSTM1D(2, 3, return_sequences=True))(x),
    "groups, dilated": lambda la, x: la.Conv3D(4, 2, groups=2, dilation_rate=2, padding="same", activation="tanh")(x),
    "means of what is there": lambda la, x: la.AveragePooling3D((2, 3, 2), (1, 2, 3), padding="same")(x),
    "channels first": lambda la, x: la.MaxPooling3D(2, data_format="channels_first")(x),
    "both ways": lambda la, x: la.Bidirectional(la.ConvLSTM2D(2, 3, return_sequences=True), merge_mode="mul")(x),
    "states": lambda la, x: la.Concatenate()(la.ConvLSTM2D(2, 3, return_state=True)(x)),
}


@pytest.mark.parametrize("name", FILMS)
def test_films_answer_as_in_keras(name, tmp_path):
    model = channels_first_or_skip(lambda: built(FILM, FILMS[name]), drawn(FILM))
    check(model, drawn(FILM), tmp_path)


def _shared(la, x):
    norm = la.GroupNormalization(2, name="norm")
    both = [la.Flatten()(norm(x)), la.Flatten()(norm(la.Cropping2D(1)(x)))]
    return la.Dense(3)(la.Concatenate()([*both, la.Flatten()(norm(la.ReLU()(x)))]))


def test_a_replaced_layer_may_be_called_often_and_with_several_shapes(tmp_path):
    check(built(IMAGE, _shared), drawn(IMAGE), tmp_path)


def _from_states(la, x):
    _, *states = la.LSTM(4, return_state=True)(x)
    return la.Dense(2)(la.LSTM(4, return_sequences=True, go_backwards=True)(x, initial_state=states))


def _cells(la):
    return [la.LSTMCell(3), la.GRUCell(2), la.SimpleRNNCell(4)]


def _hidden(la, x):
    return la.LSTM(4, return_sequences=True, go_backwards=True, zero_output_for_mask=True)(x)


STEPS = {
    "cells": lambda la, x: la.RNN(_cells(la), return_sequences=True)(x),
    "states of cells": lambda la, x: la.Concatenate()(la.RNN(la.LSTMCell(3), return_state=True)(x)),
    "from states": _from_states,
    "both ways": lambda la, x: la.Bidirectional(la.LSTM(3, return_sequences=True))(x),
    "both ways, cells": lambda la, x: la.Bidirectional(la.RNN(la.GRUCell(3), return_sequences=True))(x),
    "backwards, hidden": _hidden,
    "as it was brought": lambda la, x: la.LSTM(3, return_sequences=True, go_backwards=True, unroll=True)(x),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_each_step_is_as_in_keras(name, masked, tmp_path):
    """All of them are looked at, those too that a mask leaves out."""
    model = built(SEQUENCE, lambda la, x: STEPS[name](la, la.Masking()(x) if masked else x))
    check(model, drawn(SEQUENCE, ending=masked), tmp_path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_steps_of_ids_that_a_file_takes_in_their_own_type(precision, tmp_path):
    import tensorflow as tf

    la = tf.keras.layers
    tf.keras.utils.set_random_seed(1)
    inputs = tf.keras.Input((6,), name="ids")
    x = la.Embedding(20, 4, mask_zero=True)(own_type(inputs, tf.int32, "ids"))
    model = tf.keras.Model(inputs, la.Dense(3)(la.Bidirectional(la.LSTM(3))(x)))
    ids = np.random.default_rng(0).integers(1, 20, (9, 6)) * (np.arange(6) < np.arange(9)[:, None])
    ids = ids.astype(np.float32)
    expected = model(ids).numpy()
    tflite.write(fake_quantized(model, ids) if precision == "int8" else model, tmp_path, precision, classes=())
    (taken,) = tflite._interpreter(tmp_path / tflite.FILE, 1).get_input_details()
    assert taken["dtype"] == np.int32
    apart = np.abs(tflite.load(tmp_path)(ids) - expected).max()
    assert apart < (1e-5 if precision == "float32" else 0.05 * np.ptp(expected))


def _turned(la, x):
    import tensorflow as tf

    steps = la.LSTM(3, time_major=True, return_sequences=True)(tf.transpose(x, (1, 0, 2)))
    return tf.transpose(steps, (1, 0, 2))


def test_steps_may_come_first(tmp_path):
    check(built(SEQUENCE, _turned), drawn(SEQUENCE), tmp_path)


@pytest.mark.parametrize("name", ["both ways", "from states", "backwards, hidden"])
def test_sequences_of_any_length(name, tmp_path):
    model = built((None, 3), lambda la, x: STEPS[name](la, la.Masking()(x)))
    x = drawn((9, 3), ending=True)
    tflite.write(model, tmp_path, "float32", classes=())
    run = tflite.load(tmp_path)
    for steps in (9, 4):
        assert np.abs(run(x[:, :steps]) - model(x[:, :steps]).numpy()).max() < 1e-5, steps


@pytest.mark.parametrize("steps", [30, None])
def test_weights_of_a_loop_are_in_the_file_once_in_8_bits_and_each_turn_of_it_is_counted(steps, tmp_path):
    model = built((steps, 16), lambda la, x: la.Dense(5, name="end")(la.LSTM(64, name="memory")(x)))
    x, sizes = drawn((30, 16)), {}
    for precision in ("float32", "int8"):
        given = fake_quantized(model, x) if precision == "int8" else model
        tflite.write(given, tmp_path, precision, classes=())
        sizes[precision] = (tmp_path / tflite.FILE).stat().st_size
        expected = given(x).numpy()
        apart = np.abs(tflite.load(tmp_path)(x) - expected).max()
        assert apart < (1e-5 if precision == "float32" else 0.01) * np.ptp(expected)
        audit = tflite.audit(tmp_path, x[:1])
        assert {layer.name for layer in audit.layers} == {"memory", "end"}
        memory = sum(layer.macs for layer in audit.layers if layer.name == "memory")
        assert memory == 30 * 4 * 64 * (16 + 64), precision
        assert audit.kernels["WHILE"] == 1
        assert audit.kernels["TANH"] == 60
    kernels = 4 * 64 * (16 + 64)
    assert 4 * kernels < sizes["float32"] < 4.5 * kernels
    assert kernels < sizes["int8"] < sizes["float32"] / 2.5


def _attending(la, x):
    a, b = la.Dense(4)(x), la.Dense(4)(x)
    return la.Dense(3)(la.MultiHeadAttention(2, 3)(a, b))


BETWEEN = {
    "attention": (SEQUENCE, _attending),
    "einsum": (SEQUENCE, lambda la, x: la.Dense(3)(la.EinsumDense("abc,cd->abd", (None, 5))(la.Dense(4)(x)))),
    "resizing": (IMAGE, lambda la, x: la.Conv2D(3, 1)(la.Resizing(4, 9, interpolation="bicubic")(la.Conv2D(3, 3)(x)))),
    "channels first": (
        SEQUENCE,
        lambda la, x: la.Dense(3)(la.Conv1D(5, 2, data_format="channels_first", activation="relu")(x)),
    ),
    "cells": (SEQUENCE, lambda la, x: la.Dense(3)(la.RNN(la.LSTMCell(3))(la.Dense(4)(x)))),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_they_stand_between_integers(name, tmp_path):
    shape, layers = BETWEEN[name]
    x = drawn(shape)
    quantized = fake_quantized(channels_first_or_skip(lambda: built(shape, layers), x), x)
    tflite.write(quantized, tmp_path, "int8", classes=())
    expected = quantized(x).numpy()
    for count in (5, 1, 2):
        steps = np.abs(tflite.load(tmp_path)(x[:count]) - expected[:count]) / (np.ptp(expected) / 255)
        assert steps.max() < 2.1
    if name == "channels first":
        assert tflite.audit(tmp_path, x[:1]).integer_share == 1


def test_a_refusal_names_the_layer_of_the_model_not_a_part_of_it(tmp_path):
    import tensorflow as tf

    def layers(la, x):
        return la.TimeDistributed(la.Lambda(lambda t: tf.math.bessel_i0(t), name="inside"), name="outside")(x)

    with pytest.raises(ConversionError, match=r"layer 'outside' needs the operator BesselI0.*savedmodel"):
        tflite.write(built(SEQUENCE, layers), tmp_path, "float32", classes=())


def test_a_file_that_does_not_run_names_the_layer(tmp_path):
    model = built((4,), lambda la, x: la.Dense(2, name="second")(la.Dense(3, name="first")(x)))
    tflite.write(model, tmp_path, "float32", classes=())
    graph = TFLiteGraph((tmp_path / tflite.FILE).read_bytes())
    products = [operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED"]
    kernel = graph.tensors[products[-1].inputs[1]]
    kernel.shape = kernel.shape[::-1]
    with pytest.raises(ConversionError, match=r"layer 'second' was converted.*savedmodel"):
        tflite._keep(graph.finished(1000), tmp_path, "small", ())
    assert not (tmp_path / tflite.FILE).exists()


@pytest.mark.parametrize("axes", ["...a,a->...a", "abc,c->abc"])
def test_factors_for_each_place_are_no_product_of_matrices(axes, tmp_path):
    """As an RMSNormalization has them, for which the converter's file did not run."""

    def scaled(layers, x):
        return layers.EinsumDense(axes, output_shape=(8, 4) if "b" in axes else (None,), activation="relu")(x)

    model, x = built((8, 4), scaled), drawn((8, 4))
    tflite.write(model, tmp_path, "float32", classes=())
    np.testing.assert_allclose(tflite.load(tmp_path)(x), model(x), rtol=1e-5, atol=1e-6)
