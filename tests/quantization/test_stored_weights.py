"""Weights without integer kernels in 8 bits: files are a quarter of their float ones, and answer as the model does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.formats import FORMATS
from tasks.formats.onnx.lookups import unknown_ids
from tasks.formats.parity import targets_apart
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.stored_weights import counts, rounded, steps, stored

FILES = {"onnxruntime": "model.onnx", "litert": "model.tflite"}
WORDS, LENGTH = 400, 6
ENDS = {
    "mean": lambda la, x: la.GlobalAveragePooling1D()(x),
    "moved": lambda la, x: la.Flatten()(x),
    "added": lambda la, x: la.Flatten()(la.Add()([x, la.Dense(32)(x)])),
    "convolved": lambda la, x: la.GlobalMaxPooling1D()(la.Conv1D(4, 3)(x)),
    "recurrent": lambda la, x: la.GRU(4)(x),
}


def text(end="mean", **settings):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(2)
    layers = tf.keras.layers
    inputs = tf.keras.Input((LENGTH,), name="words")
    x = layers.Embedding(WORDS, 32, name="table", **settings)(inputs)
    return tf.keras.Model(inputs, layers.Dense(3, name="out")(ENDS[end](layers, x)), name="text")


def words():
    return np.random.default_rng(0).integers(0, WORDS, (64, LENGTH)).astype(np.float32)


@pytest.mark.parametrize("end", ENDS)
def test_an_int8_text_model_answers_right(end):
    quantized = fake_quantized(text(end, mask_zero=end == "recurrent"), words())
    assert targets_apart(quantized, tuple(FORMATS), "int8", words(), 64) == {}


@pytest.mark.parametrize("target", FILES)
def test_its_file_is_a_quarter_of_the_float_one(target, tmp_path):
    model = text()
    quantized = fake_quantized(model, words())
    sizes = {}
    for precision, source in (("float32", model), ("int8", quantized)):
        FORMATS[target].write(source, tmp_path, precision, classes=())
        sizes[precision] = (tmp_path / FILES[target]).stat().st_size
    table = 4 * WORDS * 32
    assert sizes["float32"] - sizes["int8"] > 0.7 * table
    actual = FORMATS[target].load(tmp_path)(words())
    np.testing.assert_allclose(actual, quantized(words()).numpy(), atol=0.02 * np.ptp(actual))
    if target == "onnxruntime":
        check = unknown_ids(tmp_path / "model.onnx")
        assert check(words()) == ""
        assert check(words() + WORDS) != ""


def test_tables_are_rounded_as_the_model_is_quantized_and_not_where_they_stay_in_float():
    model = text()
    before = model.get_layer("table").get_weights()[0]
    table = fake_quantized(model, words()).get_layer("table").get_weights()[0]
    np.testing.assert_array_equal(table, rounded(before))
    assert 0 < np.abs(table - before).max() <= steps(before).item() * 0.51
    numbers = counts(table)
    assert numbers.dtype == np.int8
    assert numbers.max() == 127 or numbers.min() == -127
    np.testing.assert_array_equal(rounded(table), table)
    assert counts(before) is None
    kept = fake_quantized(model, words(), float_layers={"table"}).get_layer("table").get_weights()[0]
    np.testing.assert_array_equal(kept, before)
    assert counts(np.zeros((2, 2), np.float32)) is None


# what is made of sequences, and by how much its int8 file is smaller, at least, in each runtime
KINDS = {
    "lstm": (lambda la, x: la.LSTM(48)(x), 2.6, 1.2),
    "both ways": (lambda la, x: la.Bidirectional(la.LSTM(32))(x), 2.4, 1.2),
    "gru": (lambda la, x: la.GRU(48)(x), 2.5, 1.4),
    "gru in a loop": (lambda la, x: la.GRU(48, reset_after=False)(x), 2.0, 1.4),
    "simple": (lambda la, x: la.SimpleRNN(64)(x), 1.8, 1.5),
    "cells": (lambda la, x: la.RNN([la.LSTMCell(32), la.GRUCell(32)])(x), 1.6, 1.2),
    "attention": (lambda la, x: la.Flatten()(la.MultiHeadAttention(4, 16)(x, x)), 1.5, 1.8),
    "products": (lambda la, x: la.Flatten()(la.EinsumDense("abc,cde->abde", (6, 8, 12))(x)), 1.8, 1.8),
    "convolved": (lambda la, x: la.Flatten()(la.ConvLSTM1D(16, 3)(la.Reshape((2, 3, 32))(x))), 1.6, 1.3),
}


def sequences(kind):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input((LENGTH, 32), name="steps")
    x = KINDS[kind][0](tf.keras.layers, tf.keras.layers.Dense(32, name="first")(inputs))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3, name="out")(x), name=kind.replace(" ", "_"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_integer_kernel_is_stored_in_integers_and_answers_right(kind, tmp_path):
    x = np.random.default_rng(0).normal(0, 1, (64, LENGTH, 32)).astype(np.float32)
    model = sequences(kind)
    quantized = fake_quantized(model, x)
    assert targets_apart(quantized, tuple(FORMATS), "int8", x, 64) == {}
    for target, least in zip(FILES, KINDS[kind][1:], strict=True):
        sizes = {}
        for precision, source in (("float32", model), ("int8", quantized)):
            FORMATS[target].write(source, tmp_path, precision, classes=())
            sizes[precision] = (tmp_path / FILES[target]).stat().st_size
        assert sizes["float32"] / sizes["int8"] > least, (target, sizes)


def test_weights_are_rounded_by_what_is_summed_up_and_not_where_they_stay_in_float():
    model = sequences("lstm")
    x = np.random.default_rng(0).normal(0, 1, (64, LENGTH, 32)).astype(np.float32)
    (layer,) = (layer.name for layer in model.layers if "lstm" in layer.name)
    before = model.get_layer(layer).get_weights()
    for kernel, after in zip(before[:2], fake_quantized(model, x).get_layer(layer).get_weights()[:2], strict=True):
        np.testing.assert_array_equal(after, rounded(kernel, (1,)))
        assert (np.abs(after - kernel).max(axis=0) <= np.abs(kernel).max(axis=0) / 127 * 0.51).all()
    kept = fake_quantized(model, x, float_layers={layer}).get_layer(layer).get_weights()
    for kernel, after in zip(before, kept, strict=True):
        np.testing.assert_array_equal(after, kernel)


@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3), axes=st.sampled_from([(0,), (1,), (2,), (1, 2)]), seed=st.integers(0, 99)
)
def test_what_was_rounded_is_found_however_it_is_turned(shape, axes, seed):
    draw = np.random.default_rng(seed)
    shape = (shape[0], shape[1], 64 * shape[2])
    weight = rounded(draw.normal(0, draw.uniform(0.01, 10), shape).astype(np.float32), axes)
    turned = np.ascontiguousarray(weight.transpose(order := draw.permutation(3)))
    numbers, sizes, own = stored(turned, joint=True)
    assert np.abs(numbers).max() <= 127
    np.testing.assert_allclose(numbers * sizes, turned, rtol=1e-6)
    assert {int(order[axis]) for axis in own} >= set(axes)
    assert stored(draw.normal(size=shape).astype(np.float32), joint=True) is None
