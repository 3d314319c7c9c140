"""What each layer costs, against the same changes made by hand: in NumPy, and by cutting channels out."""

import numpy as np
import pytest
from named_ends import HEADS, examples, heads, several, shapes

from tasks.channels.graph import graph_of
from tasks.contract.errors import ConversionError
from tasks.contract.named import fields
from tasks.data import DataConfig, open_data
from tasks.evidence.plots import costs_by_layer
from tasks.evidence.sensitivities import as_rows, in_words, notes, ranked
from tasks.formats.keras import files as keras
from tasks.keras_graph.asked import asked
from tasks.measuring.config import ValidateConfig
from tasks.measuring.intervals import tango
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import quantized_kernel
from tasks.quantization.switched import switched
from tasks.sensitivity import NO_KERNEL, NOT_FOLLOWED, TOO_FEW, SensitivityConfig, sensitivity

FEW = 200
CONFIG = SensitivityConfig(criterion="l2", examples=FEW)


@pytest.fixture(scope="module")
def data():
    return open_data(DataConfig(limit=1000, validation=0.25))


@pytest.fixture(scope="module")
def model(data):
    """Two layers that have learned enough for a change to show."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    x = inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Rescaling(1 / 16, name="scale")(layers.Flatten(name="flat")(x))
    x = layers.ReLU(name="relu")(layers.Dense(16, name="hidden")(x))
    model = tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="answers")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 0.02
    model.fit(*data.arrays("train"), epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def measured(model, data):
    return sensitivity(model, data, CONFIG, ValidateConfig(), seed=0)


def by_hand(model, x, *, seen=None, **changed):
    """Answers of the two layers, some of whose weights are others; the hidden values in 8 bits of what they have seen.

    Gives the answers and the hidden values.
    """
    of_layers = {name: model.get_layer(name).get_weights() for name in ("hidden", "answers")}
    of_layers |= {name: [kernel, of_layers[name][1]] for name, kernel in changed.items()}
    (first, shift), (second, bias) = of_layers.values()
    hidden = np.maximum(x.reshape(len(x), -1) / 16 @ first + shift, 0)
    if seen is not None:
        step = seen.max() / 255
        hidden = np.round(np.clip(hidden, 0, seen.max()) / step) * step
    raw = np.exp(hidden @ second + bias)
    return raw / raw.sum(axis=1, keepdims=True), hidden


def in_bits(kernel, bits):
    step = np.abs(kernel).max(axis=0) / (2 ** (bits - 1) - 1)
    return np.round(kernel / step) * step


@pytest.fixture(scope="module")
def changed_answers(model, data):
    """The unchanged answers, and by layer and change those with it, made without the code that is tested."""
    x, _ = data.sample("validation", FEW)
    first, second = (model.get_layer(name).get_weights()[0] for name in ("hidden", "answers"))
    _, seen = by_hand(model, data.sample("train", FEW)[0])
    least = np.argsort(np.linalg.norm(first, axis=0))[:8]
    of_files = quantized_kernel(fake_quantized(model, x).get_layer("quant_hidden")).numpy()
    without = second.copy()
    without[least] = 0
    kept = np.ones(16, bool)
    kept[least] = False
    return by_hand(model, x)[0], {
        ("hidden", "weights_8"): by_hand(model, x, hidden=of_files)[0],
        ("hidden", "weights_4"): by_hand(model, x, hidden=in_bits(first, 4))[0],
        ("answers", "weights_4"): by_hand(model, x, answers=in_bits(second, 4))[0],
        ("hidden", "outputs_8"): by_hand(model, x, seen=seen)[0],
        ("hidden", "channels_50"): asked(graph_of(model).cut(kept), x),
    }


def test_each_change_is_the_one_that_it_is_called(measured, changed_answers, data):
    before, changed = changed_answers
    costs = {(layer.layer, name): cost for layer in measured.layers for name, cost in layer.costs.items()}
    y = data.sample("validation", FEW)[1]
    right = before.argmax(axis=1) == y
    assert measured.scores[""].estimate == pytest.approx(right.mean())
    assert right.mean() > 0.8
    lost_somewhere = 0
    for each, answers in changed.items():
        moved = np.square(answers - before).mean() / before.var()
        assert costs[each].change == pytest.approx(moved, rel=0.02), each
        still = answers.argmax(axis=1) == y
        lost, gained = int((right & ~still).sum()), int((~right & still).sum())
        lost_somewhere += lost
        assert costs[each].drops[""] == tango(lost, gained, FEW), each
    assert lost_somewhere > 5
    assert costs["hidden", "weights_4"].change > 10 * costs["hidden", "weights_8"].change


def test_the_most_costly_stands_first_and_what_cannot_be_changed_is_said(measured):
    rows, order = as_rows(measured), ranked(measured)
    assert len(rows) == len(order) == 8
    assert [cost.change for _, _, cost in order] == sorted((cost.change for _, _, cost in order), reverse=True)
    assert (rows[0]["layer"], rows[0]["change"]) == ("hidden", "without 50% of channels")
    assert rows[0]["drop of accuracy"].endswith(" *"), "its interval lies above zero"
    assert [layer.layer for layer in measured.layers] == ["hidden", "answers"]
    assert notes(measured) == [
        f"answers: not without 25% of channels, without 50% of channels: {NOT_FOLLOWED}",
    ]


def test_the_plot_has_a_point_for_each_cost(measured):
    left, right = costs_by_layer(measured).axes
    points = {float(line.get_xdata()[0]) for line in left.get_lines() if len(line.get_xdata()) == 1}
    moved = [cost.change for _, _, cost in ranked(measured)]
    assert 0 in moved, "a quarter of the hidden channels never answers"
    least = min(change for change in moved if change)
    assert sorted(points) == pytest.approx(sorted({change or least / 2 for change in moved})), "no zero has a logarithm"
    spans = {tuple(line.get_xdata()) for line in right.get_lines() if len(line.get_xdata()) == 2}
    lines = {(0, 0), (0, 1)}  # no drop, and between layers
    assert spans == {(cost.drops[""].low, cost.drops[""].high) for _, _, cost in ranked(measured)} | lines
    assert [label.get_text() for label in left.get_yticklabels()] == ["hidden", "answers"]


def test_all_is_as_before_once_a_change_is_over(model, data):
    x, examples = (data.sample(split, FEW)[0] for split in ("validation", "train"))
    parts = switched(model, examples)
    assert {name: len(each) for name, each in parts.switches.items()} == {"hidden": 1, "answers": 1}
    before = asked(parts.model, x)
    np.testing.assert_allclose(before, asked(model, x), atol=1e-6)
    for change in (parts.weights("hidden", 4), parts.outputs("answers")):
        with change:
            assert np.abs(asked(parts.model, x) - before).max() > 1e-4
        np.testing.assert_array_equal(asked(parts.model, x), before)


@pytest.fixture(scope="module")
def of_several(tmp_path_factory):
    """Three inputs and three outputs, each with a problem of its own, and recurrent layers among the others."""
    model = keras.fitted(several(), shapes(), heads(), "theirs", "model")
    x = examples(count=200)
    answers = asked(model, x)
    tags = (answers["tags"] > np.median(answers["tags"], axis=0)).astype(np.int64)
    file = tmp_path_factory.mktemp("data") / "named.npz"
    np.savez(file, **fields(x), kind=answers["kind"].argmax(axis=1), tags=tags, price=answers["price"])
    named = [{"name": name, "problem": head.problem} for name, head in HEADS.items()]
    data = open_data(DataConfig(reader="npz", source=str(file), input="photo, table, words", heads=named))
    config = SensitivityConfig(bits=(4,), shares=(0.5,), examples=64)
    return sensitivity(model, data, config, ValidateConfig(metrics={"price": "mae"}), seed=0)


def test_each_output_has_its_drop_by_its_own_metric(of_several):
    assert of_several.metrics == {"kind": "accuracy", "tags": "label_accuracy", "price": "mae"}
    assert len(of_several.layers) > 4
    for layer in of_several.layers:
        for cost in layer.costs.values():
            assert set(cost.drops) == {"kind", "tags", "price"}
    costs = {layer.layer: layer.costs for layer in of_several.layers}
    of_kind = costs["kind"]["weights_4"].drops
    assert of_kind["price"].low == of_kind["price"].high == 0, "one output's own layer moves no other"
    assert costs["kind"]["weights_4"].change > 0
    assert {"drop of kind accuracy", "drop of price mae"} <= set(as_rows(of_several)[0])


def test_layers_without_an_integer_kernel_are_named(of_several):
    said = of_several.left_out | {layer.layer: ", ".join(layer.missing.values()) for layer in of_several.layers}
    assert any(NO_KERNEL in why for why in of_several.left_out.values()), said
    assert not set(of_several.left_out) & {layer.layer for layer in of_several.layers}


def test_a_layer_of_few_channels_says_so(model, data):
    config = SensitivityConfig(bits=(), shares=(0.05, 0.5), criterion="l1", examples=64)
    hidden, _ = sensitivity(model, data, config, ValidateConfig(), seed=0).layers
    assert hidden.missing == {"channels_5": TOO_FEW}
    assert set(hidden.costs) == {"outputs_8", "channels_50"}
    assert in_words("channels_5") == "without 5% of channels"


def test_a_model_without_kernels_is_refused(data):
    import tensorflow as tf

    inputs = tf.keras.Input((8, 8, 1), name="input")
    rows = tf.keras.layers.Reshape((8, 8), name="rows")(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.LSTM(10, name="only")(rows), name="recurrent")
    with pytest.raises(ConversionError, match="'recurrent' has no layer whose bits or channels can be changed"):
        sensitivity(model, data, CONFIG, ValidateConfig(), seed=0)
