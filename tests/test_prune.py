import numpy as np
import pytest
from pydantic import ValidationError

from tasks.channels.config import Goal
from tasks.data import DataConfig, open_data
from tasks.keras_graph.rebuild import kind
from tasks.prune import PruneConfig, _times, prune
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching
from tasks.training.weight_sparsity import sparsity_by_layer

TEACHING = Teaching()
SHORT = FitConfig(epochs=2, batch_size=32, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data():
    return open_data(DataConfig(limit=200))


@pytest.fixture(scope="module")
def student():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(8, 1, activation="relu", name="second")(x)
    x = layers.Dense(16, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
    return tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="probabilities")(x), name="student")


def run(student, data, config, *, teacher=None, checkpoints=None):
    reported = []
    pruned = prune(
        student,
        data,
        config,
        teacher=teacher,
        teaching=TEACHING,
        seed=0,
        report=lambda *epoch: reported.append(epoch),
        checkpoints=checkpoints,
    )
    return pruned, reported


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
def test_the_smallest_weights_become_zero(student, data, schedule):
    config = PruneConfig(method="magnitude", sparsity=0.75, schedule=schedule, frequency=2, fit=SHORT)
    pruned, reported = run(student, data, config)
    shares = sparsity_by_layer(pruned)
    assert shares.pop("depthwise") == 0  # never pruned
    assert set(shares) == {"first", "second", "dense", "probabilities"}
    assert all(share == pytest.approx(0.75, abs=0.02) for share in shares.values())
    assert len(reported) == 2


def test_what_comes_back_is_plain_and_what_went_in_is_untouched(student, data):
    before = [weight.copy() for weight in student.get_weights()]
    pruned, _ = run(student, data, PruneConfig(method="magnitude", fit=SHORT), teacher=student)
    assert [kind(layer) for layer in pruned.layers] == [kind(layer) for layer in student.layers]
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in student.layers]
    assert [weight.shape for weight in pruned.get_weights()] == [weight.shape for weight in before]
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))


def test_without_training_it_is_pruned_at_once(student, data):
    pruned, reported = run(student, data, PruneConfig(method="magnitude", sparsity=0.5, fit=FitConfig(epochs=0)))
    kernel, before = pruned.get_layer("dense").kernel.numpy(), student.get_layer("dense").kernel.numpy()
    assert not reported
    np.testing.assert_array_equal(kernel[kernel != 0], before[kernel != 0])
    assert np.abs(before[kernel == 0]).max() <= np.abs(before[kernel != 0]).min()


def test_two_of_each_four(student, data):
    pruned, _ = run(student, data, PruneConfig(method="n_m", n=1, m=4, fit=FitConfig(epochs=0)))
    kernel = pruned.get_layer("second").kernel.numpy()  # (1, 1, in, out): neighbours along the inputs
    kept = np.count_nonzero(kernel.reshape(8, 8).T.reshape(-1, 4), axis=1)
    assert set(kept) == {1}
    assert sparsity_by_layer(pruned)["second"] == 0.75


def test_blocks(student, data):
    config = PruneConfig(method="block", sparsity=0.5, block_height=1, block_width=4, fit=FitConfig(epochs=0))
    pruned, _ = run(student, data, config)
    shares = sparsity_by_layer(pruned)
    assert shares["first"] == shares["second"] == 0
    blocks = np.count_nonzero(pruned.get_layer("dense").kernel.numpy().reshape(-1, 4), axis=1)
    assert set(blocks) == {0, 4}
    assert np.mean(blocks == 0) == pytest.approx(0.5, abs=0.01)


def test_a_killed_pruning_goes_on_to_the_same_weights(student, data, tmp_path):
    config = PruneConfig(method="magnitude", frequency=2, fit=SHORT)
    whole, _ = run(student, data, config)

    class KilledError(Exception):
        pass

    before = []

    def die(*epoch):
        before.append(epoch)
        raise KilledError

    with pytest.raises(KilledError):
        prune(student, data, config, teacher=None, teaching=TEACHING, seed=0, report=die, checkpoints=tmp_path)
    resumed, reported = run(student, data, config, checkpoints=tmp_path)
    assert [epoch for epoch, *_ in reported] == [1, 2]
    assert reported[:1] == before, "the first epoch is the one that was done, with the seconds that it took then"
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"begin": 0.5, "end": 0.5}, "begin: 0.5 must lie before end"),
        ({"method": "n_m", "n": 4, "m": 4}, "n: 4 must be less than m"),
        ({"sparsity": 1.0}, "sparsity"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        PruneConfig(**settings)


@pytest.mark.parametrize(
    ("channels", "goal", "timed"),
    [
        ({"of": "latency"}, {}, True),
        ({"of": "budget"}, {"min_speedup": 2}, True),
        ({"of": "budget"}, {"max_latency_ms": 2}, True),
        ({"of": "budget"}, {"min_size_ratio": 2}, False),
        ({"of": "macs"}, {"min_speedup": 2}, False),
        (None, {"min_speedup": 2}, False),
    ],
)
def test_what_is_cut_by_time_hangs_on_the_processor(channels, goal, timed):
    config = PruneConfig(method="channels", channels=channels) if channels else PruneConfig(method="magnitude")
    assert _times({"config": config, "goal": Goal(**goal)}) is timed
