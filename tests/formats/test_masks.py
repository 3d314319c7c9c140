"""Masks: what is put between a masked layer and who reads the mask hands it on as what stood there did."""

import functools

import numpy as np
import pytest

from tasks.channels.gates import gated
from tasks.channels.graph import graph_of
from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.rebuild import flat, kind
from tasks.prune import PruneConfig, prune
from tasks.quantization.fake_quantization import fake_quantized, frozen
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching

STEPS = 5
LENGTHS = (1, STEPS // 2, STEPS)
TIMES = np.random.default_rng(0).integers(1, STEPS + 1, 90)
TIMES[: len(LENGTHS)] = LENGTHS


def padded(values):
    for row, length in zip(values, TIMES, strict=False):
        row[length:] = 0
    return values.astype(np.float32)


SENSED = padded(np.random.default_rng(1).normal(1, 1, (90, STEPS, 3)))
TOKENS = padded(np.random.default_rng(2).integers(1, 9, (90, STEPS)))


def mean(layers, x):
    return layers.Dense(2, name="out")(layers.GlobalAveragePooling1D(name="mean")(x))


def _nested(layers, x):
    import tensorflow as tf

    inner = tf.keras.Input(x.shape[1:], name="inner_input")
    block = tf.keras.Model(inner, layers.Dense(5, activation="relu", name="fc")(inner), name="block")
    return mean(layers, block(x))


def _branches(layers, x):
    return mean(layers, layers.Add()([layers.Dense(6, activation="relu")(x), layers.Dense(6)(x)]))


def _attended(layers, x):
    x = layers.Dense(6, activation="relu")(x)
    return mean(layers, layers.MultiHeadAttention(2, 3)(x, x))


def _dotted(layers, x):
    x = layers.Dense(6, activation="relu")(x)
    return mean(layers, layers.Attention()([x, x]))


def _by_argument(layers, x):
    """The mask is an argument of the call."""
    import tensorflow as tf

    real = tf.reduce_any(tf.not_equal(x, 0.0), axis=-1)
    h = layers.Dense(6, activation="relu")(layers.Conv1D(4, 3, padding="same")(x))
    return layers.Dense(2)(layers.GlobalAveragePooling1D()(h, mask=real))


def _normed(layers, x):
    x = layers.LayerNormalization()(layers.Dropout(0.3)(layers.Dense(6, activation="sigmoid")(x)))
    return mean(layers, layers.BatchNormalization()(x))


KINDS = {
    "mean": lambda la, x: mean(la, la.Dense(6, activation="relu")(x)),
    "norms": _normed,
    "lstm": lambda la, x: la.Dense(2)(la.LSTM(5)(la.Dense(6, activation="relu")(x))),
    "gru": lambda la, x: mean(la, la.GRU(5, return_sequences=True)(la.Activation("tanh")(la.Dense(6)(x)))),
    "bidirectional": lambda la, x: la.Dense(2)(la.Bidirectional(la.LSTM(4))(la.LayerNormalization()(la.Dense(6)(x)))),
    "attention": _dotted,
    "heads": _attended,
    "time distributed": lambda la, x: mean(la, la.TimeDistributed(la.Dense(4, activation="relu"))(la.Dense(6)(x))),
    "branches": _branches,
    "a layer as activation": lambda la, x: mean(la, la.Dense(6, activation=la.LeakyReLU(0.1))(x)),
    "nested": _nested,
    "by argument": _by_argument,
    # these hand no mask on, and nothing may in their place
    "convolution": lambda la, x: mean(la, la.Conv1D(6, 3, padding="same", activation="relu")(la.Dense(4)(x))),
    "separable": lambda la, x: mean(la, la.SeparableConv1D(6, 3, padding="same", activation="relu")(la.Dense(4)(x))),
    "code": lambda la, x: mean(la, la.Lambda(lambda t: t + 1)(la.Dense(4)(x))),
}


@functools.cache
def model(name, first="masking"):
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(3)
    if first == "masking":
        inputs = tf.keras.Input((STEPS, 3), name="input")
        x = layers.Masking(0.0, name="masking")(inputs)
    else:
        inputs = tf.keras.Input((STEPS,), name="input")
        x = layers.Embedding(9, 5, mask_zero=True, name="embedding")(inputs)
    return tf.keras.Model(inputs, KINDS[name](layers, x), name="masked")


def ask(keras_model, x):
    return keras_model(x, training=False).numpy()


def off(actual, expected):
    """The largest difference in each output channel, in shares of its range."""
    assert (np.isnan(actual) == np.isnan(expected)).all()
    return np.nanmax(np.abs(actual - expected), axis=0) / (np.nanmax(expected, axis=0) - np.nanmin(expected, axis=0))


@pytest.mark.parametrize("name", KINDS)
def test_a_model_taken_apart_reads_its_masks_as_before(name):
    x = np.concatenate([SENSED, np.zeros_like(SENSED[:2])])  # where all is masked too: no number, or Keras' own
    expected = ask(model(name), x)
    for again in (flat(model(name)), split(fold(model(name)))):
        assert off(ask(again, x), expected).max() < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_in_integers_a_masked_model_is_as_near_as_one_without_padding(name):
    x = SENSED
    expected = ask(model(name), x)
    quantized = fake_quantized(model(name), x)
    assert any(kind(layer) == "QuantizeWrapperV2" for layer in quantized.layers)
    errors = np.abs(ask(quantized, x) - expected) / np.ptp(expected, axis=0)
    usual = errors[TIMES == STEPS].max()
    for length in LENGTHS:
        assert errors[length == TIMES].max() < max(2 * usual, 0.08), f"{length} of {STEPS} steps"
    assert off(ask(frozen(quantized), x), ask(quantized, x)).max() < 0.01


@pytest.mark.parametrize("name", ["mean", "lstm", "branches"])
def test_padding_of_tokens_counts_no_more_in_integers(name):
    expected = ask(model(name, "embedding"), TOKENS)
    assert off(ask(fake_quantized(model(name, "embedding"), TOKENS), TOKENS), expected).max() < 0.05


def test_examples_of_nothing_but_padding_leave_ranges_and_biases_numbers():
    x = np.concatenate([SENSED, np.zeros_like(SENSED[:2])])
    for more in ({}, {"bias_correction": True}, {"calibration": "percentile"}):
        quantized = fake_quantized(model("mean"), x, **more)
        assert all(np.isfinite(weight).all() for weight in quantized.get_weights())
        assert off(ask(quantized, SENSED), ask(model("mean"), SENSED)).max() < 0.05


@pytest.mark.parametrize("first", ["masking", "embedding"])
@pytest.mark.parametrize("target", ["onnxruntime", "litert", "savedmodel"])
def test_files_leave_padding_out(target, first, tmp_path):
    x = SENSED if first == "masking" else TOKENS
    expected = ask(model("mean", first), x)
    quantized = fake_quantized(model("mean", first), x)
    partly = fake_quantized(model("mean", first), x, float_layers=("out",))
    for number, (source, near) in enumerate(((model("mean", first), 1e-4), (quantized, 0.05), (partly, 0.05))):
        precision, place = "int8" if number else "float32", tmp_path / str(number)
        place.mkdir()
        FORMATS[target].write(source, place, precision, classes=())
        assert off(FORMATS[target].load(place, 1)(x), expected).max() < near, precision


@pytest.mark.parametrize("target", ["onnxruntime", "litert", "savedmodel"])
def test_layers_that_stay_in_float_hand_masks_on_in_files(target, tmp_path):
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(5)
    inputs = tf.keras.Input((STEPS, 3), name="input")
    x = layers.Dense(6, activation="relu", name="apart")(layers.Masking(0.0)(inputs))
    masked = tf.keras.Model(inputs, mean(layers, layers.Dense(6, name="quantized")(x)))
    expected = ask(masked, SENSED)
    FORMATS[target].write(fake_quantized(masked, SENSED, float_layers=("apart",)), tmp_path, "int8", classes=())
    assert off(FORMATS[target].load(tmp_path, 1)(SENSED), expected).max() < 0.05


def test_gates_of_channels_hand_masks_on():
    graph = graph_of(model("branches"))
    parts = gated(graph).model
    assert len(parts.layers) > len(graph.model.layers)
    assert off(ask(parts, SENSED), ask(model("branches"), SENSED)).max() < 1e-5


@pytest.mark.parametrize("method", ["magnitude", "channels"])
def test_a_masked_model_is_pruned_and_still_masked(method, tmp_path):
    levels = SENSED.sum(axis=(1, 2)) / TIMES
    np.savez(tmp_path / "data.npz", x=SENSED, y=levels.astype(np.float32))
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "data.npz"), problem="regression"))
    config = PruneConfig(method=method, sparsity=0.01, fit=FitConfig(epochs=1, learning_rate=1e-9))
    pruned = prune(single(), data, config, teacher=None, teaching=Teaching(), seed=0, report=lambda *_: None)
    again = ask(pruned, SENSED)
    alone = [ask(pruned, row[None, :length])[0] for row, length in zip(SENSED, TIMES, strict=True)]
    np.testing.assert_allclose(again, alone, rtol=1e-4, atol=1e-5)


def single():
    """One number for a sequence of any length."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((None, 3), name="input")
    x = layers.Dense(8, activation="relu", name="step")(layers.Masking(0.0)(inputs))
    return tf.keras.Model(inputs, layers.Dense(1, name="out")(layers.GlobalAveragePooling1D()(x)))
