"""A cut that is spread by what layers cost: against models that are really cut."""

import numpy as np
import pytest
from small_models import convolutional, images

from tasks.channels.config import ChannelConfig
from tasks.channels.graph import graph_of
from tasks.channels.importance import magnitude
from tasks.channels.select import order
from tasks.channels.shrink import scored
from tasks.channels.spread import by_sensitivity
from tasks.data import DataConfig, open_data
from tasks.keras_graph.asked import asked
from tasks.quantization.mixed_precision import change


@pytest.fixture(scope="module")
def graph():
    return graph_of(convolutional())


@pytest.fixture(scope="module")
def spread(graph):
    return by_sensitivity(graph, magnitude(graph, 2), images(64))


def test_a_score_is_what_the_cut_up_to_it_costs(graph, spread):
    x, norms = images(64), magnitude(graph, 2)
    before = asked(graph.model, x)
    assert len(graph.groups) == 3
    for group in graph.groups:
        least = group[np.argsort(norms[group])]
        np.testing.assert_array_equal(group[np.argsort(spread[group])], least)  # the criterion's own order stays
        assert (np.diff(spread[least]) > 0).all()
        most = 0.0  # drawn weights may answer more alike without half of them than without a quarter
        for count in (len(group) // 4, len(group) // 2):
            stays = np.ones(graph.units, bool)
            stays[least[:count]] = False
            most = max(most, change(asked(graph.cut(stays), x), before))
            assert spread[least[count - 1]] == pytest.approx(most, rel=2e-3, abs=1e-9)


def test_what_costs_nothing_goes_first(graph):
    """A group that nobody hears loses all that it may before another one loses a unit."""
    model = convolutional()
    silent = model.get_layer("logits")
    kernel, bias = silent.get_weights()
    kernel[:6] = 0  # half of what `dense` makes
    silent.set_weights([kernel, bias])
    graph = graph_of(model)
    norms = magnitude(graph, 2)
    (dense,) = [group for group, makers in zip(graph.groups, graph.makers, strict=True) if makers == ("dense",)]
    norms[dense[:6]] = np.linspace(0.1, 0.2, 6)  # the criterion knows which
    spread = by_sensitivity(graph, norms, images(64))
    gone = np.flatnonzero(~order(graph, spread, floor=0.1, multiple=1)(6))
    assert set(gone) == set(dense[:6])


def test_units_that_must_stay_do(graph):
    norms = magnitude(graph, 2)
    norms[graph.groups[0][:3]] = np.inf
    spread = by_sensitivity(graph, norms, images(16))
    np.testing.assert_array_equal(np.isinf(spread), np.isinf(norms))


def test_a_recipe_asks_for_it():
    data = open_data(DataConfig(limit=200))
    graph = graph_of(convolutional((8, 8, 1), 10))
    config = ChannelConfig(criterion="l2", spread="sensitivity", examples=32)
    expected = by_sensitivity(graph, magnitude(graph, 2), data.sample("train", 32)[0])
    np.testing.assert_array_equal(scored(graph, data, config), expected)
    np.testing.assert_array_equal(scored(graph, data, ChannelConfig(criterion="l2")), magnitude(graph, 2))
