"""Mixed precision and bias correction on a network that has one layer which integers ruin."""

import numpy as np
import pytest
from small_models import convolutional, images

from tasks.formats import FORMATS
from tasks.quantization.bias_correction import correct_biases
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.mixed_precision import mixed, ranking
from tasks.quantization.parameters import in_integers


@pytest.fixture(scope="module")
def fragile():
    """`dense` has a huge weight in each of its channels, for an input that is always zero: all others round away."""
    model = convolutional()
    silent, layer = model.get_layer("strided"), model.get_layer("dense")
    kernel, bias = silent.get_weights()
    kernel[..., 0] = bias[0] = 0
    silent.set_weights([kernel, bias])
    kernel, bias = layer.get_weights()
    kernel[0] = 1000
    layer.set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def tools(fragile):
    x = images(64, seed=5)

    def make(names):
        return fake_quantized(fragile, images(64), float_layers=names)

    def answers(model):
        return model.predict(x, verbose=0)

    expected = answers(fragile)
    return make, answers, lambda outputs: float(np.abs(outputs - expected).max()), expected


def test_the_layer_that_costs_most_is_ranked_first(tools):
    make, answers, _, expected = tools
    layers = in_integers(make(()))
    assert set(layers) == {"stem", "depthwise", "pointwise", "strided", "dense", "logits"}
    assert ranking(layers, make, answers, expected)[0] == "dense"


def test_as_few_layers_as_it_takes_stay_in_float(tools, tmp_path):
    make, answers, drop, expected = tools
    assert drop(answers(make(()))) > 0.05
    quantized = mixed(make, answers, drop, expected, 0.05)
    assert drop(answers(quantized)) <= 0.05
    assert set(in_integers(quantized)) == {"stem", "depthwise", "pointwise", "strided", "logits"}
    x = images(100, seed=6)
    for target in ("onnxruntime", "litert"):
        folder = tmp_path / target
        folder.mkdir()
        FORMATS[target].write(quantized, folder, "int8", classes=())
        audit = FORMATS[target].audit(folder, x[:1])
        assert [layer.name for layer in audit.in_float] == ["dense"], target
        assert 0 < audit.integer_share < 1
        assert np.abs(FORMATS[target].load(folder)(x) - quantized.predict(x, verbose=0)).max() < 0.02, target


def test_where_integers_do_no_harm_none_stays_in_float(tools):
    make, answers, drop, expected = tools
    assert len(in_integers(mixed(make, answers, drop, expected, 1e9))) == 6


def test_one_layer_stays_in_integers_whatever_is_asked(tools):
    make, answers, _, expected = tools
    assert len(in_integers(mixed(make, answers, lambda _outputs: 1.0, expected, 0.0))) == 1


def test_corrected_biases_bring_back_the_means():
    import tensorflow as tf

    model, x = convolutional(), images(256, seed=7)

    def offsets(quantized):
        ask = lambda graph, name: tf.keras.Model(graph.inputs, graph.get_layer(name).output).predict(x, verbose=0)  # noqa: E731
        return np.abs((ask(quantized, "quant_logits") - ask(model, "logits")).mean(axis=0)).max()

    plain, corrected = (fake_quantized(model, x, bias_correction=correct) for correct in (False, True))
    assert offsets(plain) > 0
    assert offsets(corrected) < offsets(plain) / 5
    again = correct_biases(corrected, fake_quantized_source(model), x, 64)
    assert max(again.values()) < 1e-3


def fake_quantized_source(model):
    from tasks.keras_graph.folding import fold, split

    return split(fold(model))
