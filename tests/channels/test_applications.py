"""MobileNetV2 loses channels: what is left is a third less work, trains, and answers so in the files."""

import numpy as np
import pytest
from small_models import settle_norms

from tasks.channels.config import ChannelConfig
from tasks.channels.graph import graph_of
from tasks.data import DataConfig, open_data
from tasks.formats.parity import targets_apart
from tasks.prune import PruneConfig, prune
from tasks.quantization.fake_quantization import fake_quantized
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (96, 96, 3), 4
TARGETS = ("onnxruntime", "litert")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures whose colour is their class."""
    draw = np.random.default_rng(0)
    y = np.arange(160) % CLASSES
    x = draw.normal(0, 0.3, (160, *SHAPE)).astype(np.float32)
    for place, kind in enumerate(y):
        x[place, ..., kind % 3] += 0.5 if kind < 3 else -0.5
    file = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    np.savez(file, x=x, y=y)
    return open_data(DataConfig(reader="npz", source=str(file)))


def work(model):
    graph = graph_of(model)
    return graph.macs(np.ones(graph.units, bool))


def test_a_third_of_the_work_goes(data):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    model = settle_norms(tf.keras.applications.MobileNetV2(SHAPE, weights=None, classes=CLASSES))
    config = PruneConfig(
        method="channels",
        fit=FitConfig(epochs=1, batch_size=16, learning_rate=1e-4),
        channels=ChannelConfig(of="macs", remove=1 / 3),
    )
    pruned = prune(model, data, config, teacher=model, teaching=Teaching(), seed=0, report=lambda *_: None)
    assert 0.6 < work(pruned) / work(model) <= 0.67
    x, _ = data.sample("test", 8)
    assert targets_apart(pruned, TARGETS, "float32", x, len(x)) == {}
    assert targets_apart(fake_quantized(pruned, x), TARGETS, "int8", x, len(x)) == {}
