"""Embeddings in 8 bits: the file of a text model is a quarter of its float one, and answers as the model does."""

import numpy as np
import pytest

from tasks.formats import FORMATS
from tasks.formats.onnx.lookups import unknown_ids
from tasks.formats.parity import targets_apart
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.tables import counts, rounded, step_of

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
    assert 0 < np.abs(table - before).max() <= step_of(before) * 0.51
    numbers = counts(table)
    assert numbers.dtype == np.int8
    assert numbers.max() == 127 or numbers.min() == -127
    np.testing.assert_array_equal(rounded(table), table)
    assert counts(before) is None
    kept = fake_quantized(model, words(), float_layers={"table"}).get_layer("table").get_weights()[0]
    np.testing.assert_array_equal(kept, before)
    assert counts(np.zeros((2, 2), np.float32)) is None
