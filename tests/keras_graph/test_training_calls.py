"""Calls with `training` and stateful layers: kept as they are, or refused by name, and never forgotten."""

import re

import numpy as np
import pytest
from small_models import settle_norms

from tasks.contract.errors import ConversionError
from tasks.data import DataConfig, open_data
from tasks.keras_graph.batch_independence import mixed_up
from tasks.keras_graph.folding import fold
from tasks.keras_graph.rebuild import calls_of, flat, training_of
from tasks.keras_graph.training_calls import unanswerable
from tasks.quantization.fake_quantization import fake_quantized
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import plain, supervised

SHAPE = (6, 4)
X = np.random.default_rng(0).normal(2, 3, (32, *SHAPE)).astype(np.float32)


def model_of(answer, **options):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    inputs = tf.keras.Input(SHAPE, name="input", **options)
    return settle_norms(tf.keras.Model(inputs, answer(tf.keras.layers, inputs), name="theirs"))


def nested(**called):
    def answer(layers, x):
        import tensorflow as tf

        inner = tf.keras.Input(SHAPE)
        norm = layers.BatchNormalization(name="norm")(layers.Dense(4, name="fc")(inner))
        return tf.keras.Model(inner, layers.Dropout(0.5, name="drop")(norm), name="block")(x, **called)

    return answer


def _tf():
    import tensorflow as tf

    return tf


def twice_nested(layers, x):
    import tensorflow as tf

    inner = tf.keras.Input(SHAPE)
    return tf.keras.Model(inner, nested()(layers, inner), name="outer")(x, training=True)


REFUSED = {
    "norm": (
        lambda la, x: la.BatchNormalization(name="n")(x, training=True),
        r"'n'.*GroupNormalization\(groups",
    ),
    "by place": (lambda la, x: la.BatchNormalization(name="n")(x, True), "'n'.*depends on what else is in its batch"),
    "of vectors": (lambda la, x: la.BatchNormalization(name="n")(la.Flatten()(x), training=True), "LayerNormalization"),
    "dropout": (
        lambda la, x: la.Dropout(0.3, name="d")(x, training=True),
        "'d' .Dropout.*random.*set_weights",
    ),
    "noise": (lambda la, x: la.GaussianNoise(0.3, name="d")(x, training=True), "'d'.*drawn at random"),
    "lstm": (lambda la, x: la.LSTM(3, dropout=0.1, name="d")(x, training=True), "'d'.*drawn at random"),
    "in a wrapper": (lambda la, x: la.Bidirectional(la.GRU(3, dropout=0.1), name="d")(x, training=True), "'d'.*random"),
    "heads": (lambda la, x: la.MultiHeadAttention(2, 2, dropout=0.1, name="d")(x, x, training=True), "'d'.*random"),
    "nested": (nested(training=True), "'norm'.*batch"),
    "twice nested": (twice_nested, "'norm'.*batch"),
    "operation": (lambda la, x: _tf().nn.dropout(x, 0.2), "tf.nn.dropout.*at random"),
    "code": (lambda la, x: la.Lambda(lambda t, training=None: t, name="c")(x, training=True), "'c'.*code of your own"),
}


def frozen(layers, x):
    return layers.BatchNormalization(name="n", trainable=False)(x, training=True)


KEPT = {
    "training=False": lambda la, x: la.BatchNormalization(name="n")(x, training=False),
    "frozen": frozen,
    "nothing to drop": lambda la, x: la.Dropout(0.0)(x, training=True),
    "lstm": lambda la, x: la.LSTM(3)(x, training=True),
    "heads": lambda la, x: la.MultiHeadAttention(2, 2)(x, x, training=True),
    "nested": nested(),
    "nested, training=False": nested(training=False),
    "dropout": lambda la, x: la.Dropout(0.5)(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_answers_as_in_training_is_refused_with_the_way_out(name):
    build, message = REFUSED[name]
    model = model_of(build)
    assert re.search(message, unanswerable(model)), unanswerable(model)
    with pytest.raises(ConversionError, match=message):
        fold(model)


@pytest.mark.parametrize("name", KEPT)
def test_what_answers_alike_is_taken(name):
    model = model_of(KEPT[name])
    assert unanswerable(model) == ""
    np.testing.assert_allclose(fold(model)(X), model(X), rtol=1e-4, atol=1e-5)


def test_the_way_out_answers_as_the_norm_did_that_is_asked_one_at_a_time():
    import tensorflow as tf

    model = model_of(REFUSED["norm"][0])
    epsilon = float(unanswerable(model).split("epsilon=")[1].split(")")[0])
    norm = model.get_layer("n")
    again = model_of(lambda la, x: la.GroupNormalization(-1, epsilon=epsilon, name="g")(x))
    again.get_layer("g").set_weights([norm.gamma.numpy(), norm.beta.numpy()])
    assert unanswerable(again) == ""
    expected = [model(row[None], training=False)[0] for row in tf.constant(X)]
    np.testing.assert_allclose(again(X), expected, rtol=1e-3, atol=1e-4)


def test_a_nested_model_hands_its_training_on_to_its_layers():
    plain = flat(model_of(nested(training=False)))
    trainings = {node.layer.name: training_of(node.layer, node.call_args, node.call_kwargs) for node in calls_of(plain)}
    assert trainings == {"block_fc": None, "block_norm": False, "block_drop": False}


@pytest.mark.parametrize("name", ["training=False", "frozen", "nested, training=False"])
def test_what_is_not_to_learn_from_batches_does_not_in_our_training(name, tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=X.mean(axis=(1, 2)))
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "data.npz"), problem="regression"))
    model = model_of(lambda la, x: la.Dense(1, name="out")(la.Flatten()(KEPT[name](la, x))))
    trained = flat(model)
    config = FitConfig(epochs=1, batch_size=8, learning_rate=1e-3)
    fit(trained, data, config, supervised(plain("regression", data.head.variance)), seed=0, report=lambda *_: None)
    norm = next(layer for layer in trained.layers if layer.name.endswith(("n", "norm")) and hasattr(layer, "gamma"))
    before = model.get_layer("block").get_layer("norm") if "nested" in name else model.get_layer("n")
    np.testing.assert_array_equal(norm.moving_mean, before.moving_mean)
    np.testing.assert_array_equal(norm.moving_variance, before.moving_variance)
    assert np.abs(trained.get_layer("out").kernel.numpy() - model.get_layer("out").kernel.numpy()).max() > 0
    if name == "frozen":
        np.testing.assert_array_equal(norm.gamma, before.gamma)


def test_a_norm_that_is_not_told_does_move():
    model = model_of(lambda la, x: la.BatchNormalization(name="n")(x))
    before = model.get_layer("n").moving_mean.numpy()
    model(X, training=True)
    assert np.abs(model.get_layer("n").moving_mean.numpy() - before).max() > 0.01


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "Bidirectional"])
def test_stateful_layers_are_refused_with_the_way_out(kind):
    def answer(layers, x, *, stateful):
        if kind == "Bidirectional":
            return layers.Bidirectional(layers.LSTM(3, stateful=stateful), name="memory")(x)
        return getattr(layers, kind)(3, stateful=stateful, name="memory")(x)

    model = model_of(lambda la, x: answer(la, x, stateful=True), batch_size=1)
    assert "'memory'" in unanswerable(model)
    assert "stateful=False" in unanswerable(model)
    with pytest.raises(ConversionError, match="stateful"):
        fake_quantized(model, X[:1])
    free = model_of(lambda la, x: answer(la, x, stateful=False))
    free.set_weights(model.get_weights())
    assert unanswerable(free) == ""
    np.testing.assert_allclose(free(X[:1]), model(X[:1]), rtol=1e-5, atol=1e-6)


ACROSS = {
    "norm": REFUSED["norm"][0],
    "means": lambda la, x: x - _tf().reduce_mean(x, axis=0),
    "one batch": lambda la, x: la.Dense(2)(_tf().reshape(x, (1, 24))),
}


@pytest.mark.parametrize("name", ACROSS)
def test_what_looks_across_the_batch_is_found(name):
    assert "get_weights()" in mixed_up(model_of(ACROSS[name]))


def test_the_first_layer_that_mixes_examples_up_is_named():
    model = model_of(lambda la, x: la.Dense(2)(la.LSTM(3, time_major=True, name="turned")(la.Dense(4)(x))))
    assert "'turned' (LSTM, time_major=True)" in mixed_up(model)


def test_counts_of_tokens_are_asked_for_tokens():
    import tensorflow as tf

    inputs = tf.keras.Input((5,), name="input")
    x = tf.keras.layers.CategoryEncoding(9, output_mode="count")(inputs)
    assert mixed_up(tf.keras.Model(inputs, tf.keras.layers.Dense(2)(x))) == ""


@pytest.mark.parametrize("name", KEPT)
def test_what_does_not_is_taken(name):
    assert mixed_up(model_of(KEPT[name])) == ""


def test_sequences_of_tokens_of_any_length_are_asked_too():
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((None,), name="input")
    x = layers.LSTM(3)(layers.Embedding(7, 4, mask_zero=True)(inputs))
    assert mixed_up(tf.keras.Model(inputs, layers.Dense(2)(x))) == ""
