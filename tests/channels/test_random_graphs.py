"""Random small graphs, cut: nothing changes where nothing should, and what is left is a model like any other."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from random_graphs import IMAGE, built, graphs, heads

from tasks.channels.graph import graph_of
from tasks.channels.importance import magnitude
from tasks.channels.rules import rule_for
from tasks.channels.select import order
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.keras_graph.rebuild import kind
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import is_fake_quantized

X = np.random.default_rng(0).normal(0, 1, (8, *IMAGE)).astype(np.float32)
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]
ratios = st.sampled_from([0.2, 0.5, 0.9])
seeds = st.integers(0, 1000)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def emptied(graph, gone):
    """A graph's model in place, with nothing in the units that are to go: every weight that makes them is zero."""
    gone = np.append(gone, False)
    for name, ends in graph.ends.items():
        layer = graph.model.get_layer(name)
        rule, mask = rule_for(layer), gone[ends.outputs]
        if rule.own is None and kind(layer) != "BatchNormalization":
            continue
        weights = layer.get_weights()
        for place, weight in enumerate(weights):
            if place == 0 and "Transpose" in kind(layer):
                weight[..., mask, :] = 0
            elif place == 0 and kind(layer) == "DepthwiseConv2D":
                weight.reshape(*weight.shape[:2], -1)[..., mask] = 0
            elif not (place == 0 and kind(layer) == "SeparableConv2D"):
                weight[..., mask] = 0
        layer.set_weights(weights)


def nothing_changes(graph, head, seed):
    model = built(graph, head)
    channels = graph_of(model)
    note(f"{channels.makers} {list(map(len, channels.groups))}")
    np.testing.assert_array_equal(channels.cut(np.ones(channels.units, bool))(X), model(X))
    draw = np.random.default_rng(seed)
    stays = draw.random(channels.units) < 0.6
    for group in channels.groups:
        stays[draw.choice(group)] = True
    emptied(channels, ~stays)
    close(channels.cut(stays)(X).numpy(), channels.model(X).numpy())


def no_sigmoid(graph):
    """Sigmoid of zero is a half: a channel behind it is never nothing, and its removal rightly changes what follows."""
    return tuple(tuple("tanh" if part == "sigmoid" else part for part in step) for step in graph)


def is_a_model(graph, head, ratio, folder, precisions):
    import tensorflow as tf

    channels = graph_of(built(graph, head))
    stays = order(channels, magnitude(channels, 1), floor=0.1, multiple=1)(int(ratio * channels.units))
    cut = channels.cut(stays)
    note(f"{channels.makers} {list(map(len, channels.groups))} {stays}")
    assert cut.output_shape == channels.model.output_shape
    assert cut.count_params() <= channels.model.count_params()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(cut(X, training=True)))
    gradients = tape.gradient(loss, cut.trainable_weights)
    assert all(gradient is not None and np.isfinite(gradient).all() for gradient in gradients)
    tf.keras.optimizers.SGD(1e-3).apply_gradients(zip(gradients, cut.trainable_weights, strict=True))
    expected = cut(X).numpy()
    keras.write(cut, folder)
    np.testing.assert_array_equal(keras.load(folder)(X).numpy(), expected)
    averages = any(step[:2] == ("pool", "Average") for step in graph)
    for target in FORMATS:
        for precision in precisions:
            source = fake_quantized(cut, X) if precision == "int8" else cut
            if precision == "int8" and not is_fake_quantized(source):
                continue  # nothing in it multiplies
            place = folder / f"{target}-{precision}"
            place.mkdir()
            FORMATS[target].write(source, place, precision, classes=())
            answers = FORMATS[target].load(place)(X)
            if precision == "float32":
                close(answers, expected)
                assert FORMATS[target].audit(place, X[:1]).macs == channels.macs(stays), target
                continue
            assert np.isfinite(answers).all(), target
            # TensorRT's ranges are others, and LiteRT averages on its input's grid or clips before it: not ours to cut
            if target != "tensorrt" and not (target == "litert" and averages):
                quantized = source(X).numpy()
                off = np.abs(answers - quantized).mean() / (max(np.ptp(quantized), 1e-6) / 255)
                assert off < 3, target  # steps: what is left of a cut range is small, and a step before it is not


@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(graph=graphs, head=heads, seed=seeds)
@example(graph=(("conv", 4, 3, 1, True, "relu"), ("gate",), ("shared", "relu")), head="flat", seed=0)
@example(graph=(("concatenate", 5), ("concatenate", 3), ("residual", 3, "relu")), head="mean", seed=1)
def test_nothing_changes_where_nothing_should(graph, head, seed):
    nothing_changes(no_sigmoid(graph), head, seed)


@settings(max_examples=2, deadline=None, suppress_health_check=SLOW)
@given(graph=graphs, head=heads, ratio=ratios)
@example(graph=(("separable", 5, "relu"), ("residual", 2, "tanh"), ("depthwise", 2, 3, "relu")), head="flat", ratio=0.5)
def test_what_is_left_trains_saves_loads_and_converts(graph, head, ratio, tmp_path_factory):
    is_a_model(graph, head, ratio, tmp_path_factory.mktemp("cut"), ("float32",))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(graph=graphs, head=heads, seed=seeds)
def test_nothing_changes_in_200_graphs(graph, head, seed):
    nothing_changes(no_sigmoid(graph), head, seed)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(graph=graphs, head=heads, ratio=ratios)
def test_what_is_left_of_200_graphs_is_a_model(graph, head, ratio, tmp_path_factory):
    is_a_model(graph, head, ratio, tmp_path_factory.mktemp("cut"), ("float32", "int8"))
