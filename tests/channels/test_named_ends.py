"""Models with several inputs and outputs lose channels, weights and bits, and keep their ends as they are."""

import numpy as np
import pytest
from named_ends import HEADS, examples, heads, several, shapes

from tasks.channels.config import ChannelConfig
from tasks.channels.graph import graph_of
from tasks.channels.importance import magnitude
from tasks.channels.select import order
from tasks.channels.shrink import scored, widths
from tasks.contract.named import fields
from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.parity import targets_apart
from tasks.keras_graph.asked import asked
from tasks.keras_graph.names import signature_names
from tasks.prune import PruneConfig, prune
from tasks.quantization.fake_quantization import fake_quantized, frozen
from tasks.quantize import QuantizeConfig, quantize
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching

NAMES = ["photo", "table", "words"], ["kind", "tags", "price"]
ONCE = FitConfig(epochs=1, batch_size=32, learning_rate=1e-3)


@pytest.fixture(scope="module")
def model():
    return keras.fitted(several(), shapes(), heads(), "theirs", "model")


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    """With targets that the model itself answers, but for the classes."""
    x = examples(count=200)
    answers = asked(model, x)
    targets = {
        "kind": np.arange(200) % 3,
        "tags": (answers["tags"] > np.median(answers["tags"], axis=0)).astype(np.int64),
        "price": answers["price"],
    }
    file = tmp_path_factory.mktemp("data") / "named.npz"
    np.savez(file, **fields(x), **targets)
    named = [{"name": name, "problem": head.problem} for name, head in HEADS.items()]
    return open_data(DataConfig(reader="npz", source=str(file), input="photo, table, words", heads=named))


def same(actual, expected):
    for name, each in fields(expected).items():
        np.testing.assert_allclose(actual[name], each, rtol=1e-4, atol=1e-5 * float(np.abs(each).max()), err_msg=name)


def test_channels_leave_and_the_ends_stay(model):
    x, graph = examples(), graph_of(model)
    same(asked(graph.cut(np.ones(graph.units, bool)), x), asked(model, x))
    assert {name for group in graph.makers for name in group} >= {"conv", "deep", "columns", "body", "shared"}
    assert not {name for group in graph.makers for name in group} & {"kind", "tags", "amount"}
    stays = order(graph, magnitude(graph, 1), floor=0.1, multiple=1)(graph.units // 2)
    smaller = graph.cut(stays)
    assert signature_names(smaller) == NAMES
    assert [tensor.shape[1:] for tensor in smaller.outputs] == [(3,), (4,), (2,)]
    assert smaller.count_params() < model.count_params()
    assert targets_apart(smaller, tuple(FORMATS), "float32", x, len(x)) == {}
    assert targets_apart(fake_quantized(smaller, x), tuple(FORMATS), "int8", x, len(x)) == {}


def test_what_a_channel_matters_is_its_slope_in_the_loss_of_all_outputs(model, data):
    graph, config = graph_of(model), ChannelConfig(criterion="taylor", examples=64)
    together = scored(graph, data, config)
    assert np.isfinite(together).all()
    assert (together > 0).any()


@pytest.mark.parametrize("method", ["channels", "magnitude"])
def test_pruning_keeps_the_ends(model, data, method):
    config = PruneConfig(method=method, fit=ONCE, channels=ChannelConfig(of="channels", remove=0.4, multiple=1))
    pruned = prune(model, data, config, teacher=model, teaching=Teaching(), seed=0, report=lambda *_: None)
    assert signature_names(pruned) == NAMES
    x = examples(seed=1)
    assert targets_apart(pruned, ("onnxruntime", "litert"), "float32", x, len(x)) == {}
    if method == "channels":
        assert sum(widths(pruned).values()) < sum(widths(model).values())


def test_a_model_that_was_trained_in_integers_is_what_its_files_compute(model, data):
    config = QuantizeConfig(method="training", fit=ONCE, calibration_examples=64)
    quantized = quantize(model, data, config, teacher=model, teaching=Teaching(), seed=0, report=lambda *_: None)
    assert signature_names(quantized) == signature_names(frozen(quantized)) == NAMES
    x = examples(seed=1)
    same(asked(frozen(quantized), x), asked(quantized, x))
    assert targets_apart(quantized, tuple(FORMATS), "int8", x, len(x)) == {}


def test_the_layers_that_cost_most_in_all_outputs_stay_in_float(model, data):
    config = QuantizeConfig(method="mixed", tolerance=0.0, calibration_examples=64)
    quantized = quantize(model, data, config, teacher=model, teaching=Teaching(), seed=0, report=lambda *_: None)
    assert signature_names(quantized) == NAMES
    x = examples(seed=1)
    assert targets_apart(quantized, ("onnxruntime", "litert"), "int8", x, len(x)) == {}
