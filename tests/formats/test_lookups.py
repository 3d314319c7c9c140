"""What is neither a weight nor an operator of all runtimes, in every format: tables, random crops, sparse kernels."""

import numpy as np
import pytest

from tasks.contract.errors import ConversionError
from tasks.contract.named import ONE
from tasks.data.heads import Head
from tasks.formats import FORMATS
from tasks.formats.keras.files import fitted, load, plain, write
from tasks.keras_graph.folding import fold
from tasks.quantization.fake_quantization import fake_quantized

TARGETS = ("onnxruntime", "litert", "savedmodel")
TOKENS = np.array([[2, 4, 6, 0], [-7, 4, 4, 99], [6, 5, 2, 3], [4, 4, 4, 4]], np.float32)
VOCABULARY = [4, 2, 6]


def looking_up(adapted=False, **settings):
    """Kernels behind the table, so that a wrong index is a wrong answer."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input((4,), name="input", dtype="int32")
    table = layers.IntegerLookup(vocabulary=None if adapted else VOCABULARY, name="table", **settings)
    if adapted:
        table.adapt(np.array([4, 4, 4, 2, 2, 6]))
    x = table(inputs)
    if settings.get("output_mode", "int") == "int":
        x = layers.Flatten()(layers.Embedding(9, 3, name="embedding")(x))
    return tf.keras.Model(inputs, layers.Dense(3, name="out")(x), name="tokens")


def taken(model):
    head = Head(problem="regression", output_shape=(3,))
    return fitted(plain(model, "tokens", "model"), {ONE: (4,)}, [head], "tokens", "model")


def off(actual, expected):
    """The largest difference in each output channel, in shares of its range."""
    return np.abs(actual - expected).max(axis=0) / np.ptp(expected, axis=0)


SETTINGS = {
    "plain": {},
    "adapted": {"adapted": True},
    "masked": {"mask_token": 0},
    "several for others": {"num_oov_indices": 2},
    "many hot": {"output_mode": "multi_hot"},
    "count": {"output_mode": "count", "mask_token": 0},
    "padded": {"output_mode": "multi_hot", "max_tokens": 7, "pad_to_max_tokens": True},
    "adapted count": {"adapted": True, "output_mode": "count"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_tables_are_the_same_in_every_file(name, tmp_path):
    model = looking_up(**SETTINGS[name])
    expected = model(TOKENS.astype(np.int32)).numpy()
    assert len({tuple(row) for row in expected.round(4)}) == len(TOKENS)
    ready = taken(model)
    np.testing.assert_allclose(ready(TOKENS), expected, rtol=1e-5)
    write(ready, tmp_path)  # as stages hand it on
    for target in TARGETS:
        folder = tmp_path / target
        folder.mkdir()
        FORMATS[target].write(load(tmp_path), folder, "float32", classes=())
        for count in (4, 1, 3):
            np.testing.assert_allclose(FORMATS[target].load(folder)(TOKENS[:count]), expected[:count], atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_tables_stay_beside_integer_kernels(target, tmp_path):
    quantized = fake_quantized(taken(looking_up()), TOKENS)
    FORMATS[target].write(quantized, tmp_path, "int8", classes=())
    expected = quantized(TOKENS).numpy()
    assert off(FORMATS[target].load(tmp_path)(TOKENS), expected).max() < 2 / 255


def test_weights_of_an_adapted_table_are_kept():
    model = looking_up(adapted=True, output_mode="tf_idf")
    np.testing.assert_allclose(taken(model)(TOKENS), model(TOKENS.astype(np.int32)), rtol=1e-5)


def test_what_a_table_without_room_for_others_knows_is_the_same(tmp_path):
    model, known = looking_up(num_oov_indices=0), np.array([[2, 4, 6, 2], [6, 6, 4, 4]], np.float32)
    for target in TARGETS:
        (tmp_path / target).mkdir()
        FORMATS[target].write(plain(model, "tokens", "model"), tmp_path / target, "float32", classes=())
        if target == "savedmodel":  # takes what the model takes
            import tensorflow as tf

            served = tf.saved_model.load(str(tmp_path / target)).signatures["serving_default"]
            actual = served(tf.constant(known, tf.int32))["output"].numpy()
            np.testing.assert_allclose(actual, model(known.astype(np.int32)), atol=1e-5)


def test_tokens_too_far_apart_are_refused_with_the_layer_s_name(tmp_path):
    import tensorflow as tf

    inputs = tf.keras.Input((4,), name="input", dtype="int32")
    table = tf.keras.layers.IntegerLookup(vocabulary=[1, 2**30], name="table")
    model = tf.keras.Model(inputs, tf.keras.layers.Embedding(9, 3)(table(inputs)))
    for target in TARGETS:
        with pytest.raises(ConversionError, match=r"'table'.*leave the layer out"):
            FORMATS[target].write(model, tmp_path, "float32", classes=())


def _model(shape, layer):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    inputs = tf.keras.Input(shape, name="input")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(layer(tf.keras.layers)(inputs))))


LAYERS = {
    "crop": ((8, 9, 3), lambda la: la.RandomCrop(5, 4)),
    "crop of a smaller image": ((4, 5, 3), lambda la: la.RandomCrop(6, 6)),
    "sparse, over images": ((6, 5, 2), lambda la: la.LocallyConnected2D(4, 3, implementation=3, activation="relu")),
    "sparse, channels first": (
        (2, 6, 5),
        lambda la: la.LocallyConnected2D(4, (2, 3), (2, 1), implementation=3, data_format="channels_first"),
    ),
    "sparse, over sequences": ((7, 2), lambda la: la.LocallyConnected1D(4, 3, implementation=3, use_bias=False)),
    "mostly zeros": ((6, 5, 2), lambda la: la.LocallyConnected2D(4, 3, implementation=2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_crops_and_local_kernels_answer_as_in_keras(name, tmp_path):
    shape, layer = LAYERS[name]
    model = _model(shape, layer)
    model.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in model.get_weights()])
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    expected = model(x, training=False).numpy()
    assert off(fold(model)(x).numpy(), expected).max() < 1e-5
    for target in TARGETS:
        (tmp_path / target).mkdir()
        FORMATS[target].write(model, tmp_path / target, "float32", classes=())
        assert off(FORMATS[target].load(tmp_path / target)(x), expected).max() < 1e-4, target
