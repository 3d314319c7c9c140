import contextlib
import hashlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_training
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import SHORT, Stopped, trained

from tasks.contract.artifact import digest_folder
from tasks.contract.errors import SlimlineError
from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as keras
from tasks.training.checkpoint import CHECKPOINT
from tasks.training.loop import FitConfig, derived, fit, learning_rate
from tasks.training.losses import Lesson, plain, supervised
from tasks.zoo import ModelConfig, build_model


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=150, shift=1))


@pytest.fixture(scope="module")
def whole(digits):
    """What a training gives that nothing interrupts."""
    return trained(digits)


def never(*_):
    pass


def digest(model, folder):
    folder.mkdir()
    keras.write(model, folder)
    return digest_folder(folder)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def losses(history):
    return [(values["loss"], values["validation_loss"]) for values in history]


def test_it_learns(digits):
    _, history = trained(digits, FitConfig(epochs=20, batch_size=16, learning_rate=0.01), width=1.0)
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["validation_score"] > 0.5
    assert set(history[0]) == {"loss", "score", "validation_loss", "validation_score", "learning_rate", "seconds"}


def test_the_same_seed_gives_the_same_file_whatever_ran_before(digits, whole, tmp_path):
    first, history = whole
    other, _ = trained(digits, seed=6)
    second, again = trained(digits)
    assert digest(first, tmp_path / "first") == digest(second, tmp_path / "second")
    assert losses(history) == losses(again)
    assert not same(first, other)


@pytest.mark.parametrize("model", ["mlp", "ds_cnn"])  # ds_cnn has batch norm and dropout
def test_an_interrupted_training_ends_as_an_uninterrupted_one(digits, tmp_path, model):
    whole, history = trained(digits, model=model)
    _, begun = trained(digits, model=model, stop_after=2, checkpoints=tmp_path)
    resumed, reported = trained(digits, model=model, checkpoints=tmp_path)
    assert same(resumed, whole)
    assert losses(reported) == losses(history)
    assert reported[:2] == begun, "what was trained before is reported again, as it was"


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_every_optimizer_goes_on_as_it_was(digits, tmp_path, optimizer):
    config = SHORT.model_copy(update={"optimizer": optimizer, "weight_decay": 0.01, "warmup_epochs": 1.5})
    whole, _ = trained(digits, config)
    trained(digits, config, stop_after=1, checkpoints=tmp_path)
    assert same(trained(digits, config, checkpoints=tmp_path)[0], whole)


def test_a_finished_training_is_not_trained_again(digits, whole, tmp_path):
    trained(digits, checkpoints=tmp_path)
    steps = []
    again, history = trained(digits, checkpoints=tmp_path, on_step=steps.append)
    assert not steps
    assert same(again, whole[0])
    assert losses(history) == losses(whole[1])


@pytest.mark.parametrize("harm", ["cut", "noise", "another training"])
def test_a_checkpoint_that_cannot_be_used_is_as_none(digits, whole, tmp_path, harm):
    trained(digits, stop_after=1, checkpoints=tmp_path, seed=6 if harm == "another training" else 5)
    file = tmp_path / CHECKPOINT
    content = file.read_bytes()
    if harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "noise":
        file.write_bytes(os.urandom(1000))
    assert same(trained(digits, checkpoints=tmp_path)[0], whole[0])


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from small_training import trained
from tasks.data import DataConfig, open_data

def linger(step):
    if step == 6:  # inside the second epoch of four steps
        print("inside", flush=True)
        time.sleep(600)

data = open_data(DataConfig(reader="digits", limit=150, shift=1))
trained(data, checkpoints=Path({folder!r}), on_step=linger)
"""


def test_a_training_that_was_killed_continues_in_another_process(digits, whole, tmp_path):
    program = KILLED.format(tests=str(Path(small_training.__file__).parent), folder=str(tmp_path))
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    steps = []
    continued, history = trained(digits, checkpoints=tmp_path, on_step=steps.append)
    assert steps[0] == 4, "the first epoch is not trained again"
    assert losses(history) == losses(whole[1])
    assert digest(continued, tmp_path / "continued") == digest(whole[0], tmp_path / "whole")


def test_it_ends_with_the_best_epochs_weights(digits):
    network, history = trained(digits, FitConfig(epochs=6, batch_size=16, learning_rate=0.1, schedule="constant"))
    best = max(history, key=lambda values: (values["validation_score"], -values["validation_loss"]))
    x, y = digits.arrays("validation")
    assert np.mean(network(x).numpy().argmax(axis=1) == y) == pytest.approx(best["validation_score"])


def test_an_epoch_that_comes_too_soon_is_not_chosen(digits):
    network = build_model(ModelConfig(model="mlp", width=0.25), digits, seed=0)
    after = {}

    def note(epoch):
        after[epoch] = network.get_weights()

    config = FitConfig(epochs=4, batch_size=64, learning_rate=1e-4)
    objective = supervised(plain("classification", 1.0))
    fit(network, digits, config, objective, seed=0, report=never, on_epoch_end=note, best_from=4)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), after[4], strict=True))
    early = [np.array_equal(a, b) for a, b in zip(after[3], after[4], strict=True)]
    assert not all(early)


def test_patience_stops_and_a_stopped_training_stays_stopped(digits, tmp_path):
    config = FitConfig(epochs=50, batch_size=64, learning_rate=1e-9, patience=3)
    whole, history = trained(digits, config, checkpoints=tmp_path)
    best = max(range(len(history)), key=lambda n: (history[n]["validation_score"], -history[n]["validation_loss"]))
    assert len(history) == best + 1 + 3
    again, reported = trained(digits, config, checkpoints=tmp_path)
    assert same(again, whole)
    assert losses(reported) == losses(history)


def test_no_epochs_leave_the_model_as_it_is(digits):
    network, history = trained(digits, FitConfig(epochs=0))
    assert not history
    assert same(network, build_model(ModelConfig(model="mlp", width=0.25), digits, seed=5))


def test_a_loss_that_is_no_number_names_the_knob(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.savez(tmp_path / "line.npz", x=x, y=x[:, :1])
    line = open_data(DataConfig(reader="npz", source=str(tmp_path / "line.npz"), problem="regression", target="y"))
    config = FitConfig(epochs=50, batch_size=8, learning_rate=10, optimizer="sgd", schedule="constant")
    with pytest.raises(SlimlineError, match=r"fit\.learning_rate, which is 10"):
        trained(line, config)


def test_steps_and_epochs_come_in_order(digits):
    calls = []
    trained(
        digits, SHORT, on_step=lambda step: calls.append(step), on_epoch_end=lambda epoch: calls.append(f"end {epoch}")
    )
    steps = math.ceil(digits.counts["train"] / 32)
    expected = []
    for epoch in range(3):
        expected += [*range(epoch * steps, (epoch + 1) * steps), f"end {epoch + 1}"]
    assert calls == expected


def test_one_step_at_a_time_learns_the_same(digits, whole):
    assert same(trained(digits, on_step=never)[0], whole[0])


def test_each_step_is_traced_once_whatever_the_last_batch(digits):
    from tasks.training.losses import LOSSES

    assert digits.counts["train"] % 32
    traced = []

    def objective(model):
        def loss(x, y, _taught, training, _weigh):
            traced.append(training)
            predictions = model(x, training=training)
            return LOSSES["classification"](y, predictions, 1.0), predictions

        return Lesson(loss)

    network = build_model(ModelConfig(model="mlp", width=0.25), digits, seed=0)
    fit(network, digits, SHORT, objective, seed=0, report=never)
    assert traced == [True, False]


def test_a_models_own_penalties_count(digits):
    import tensorflow as tf

    def regularized(weight):
        i = tf.keras.Input(digits.input.shape)
        dense = tf.keras.layers.Dense(10, kernel_regularizer=tf.keras.regularizers.L2(weight), activation="softmax")
        network = tf.keras.Model(i, dense(tf.keras.layers.Flatten()(i)))
        config = FitConfig(epochs=3, batch_size=16, learning_rate=0.1)
        fit(network, digits, config, supervised(plain("classification", 1.0)), seed=0, report=never)
        return float(np.abs(network.get_weights()[0]).mean())

    assert regularized(1.0) < regularized(0.0) / 2


def test_weight_decay_pulls_kernels_only(digits):
    config = FitConfig(epochs=3, batch_size=16, learning_rate=0.01, schedule="constant")
    free, _ = trained(digits, config, model="mlp")
    decayed, _ = trained(digits, config.model_copy(update={"weight_decay": 1.0}), model="mlp")
    assert np.abs(decayed.get_layer("dense1").kernel).mean() < np.abs(free.get_layer("dense1").kernel).mean()


def test_extra_weights_are_trained_and_kept_in_the_checkpoint(digits, tmp_path):
    import tensorflow as tf

    def run(stop_after, folder):
        extra = tf.Variable(1.0)

        def objective(model):
            def loss(x, y, taught, training, weigh):
                loss, predictions = supervised(plain("classification", 1.0))(model).loss(x, y, taught, training, weigh)
                return loss * tf.exp(-extra) + tf.square(extra), predictions

            return Lesson(loss, (extra,))

        def report(epoch, _epochs, _values):
            if epoch == stop_after:
                raise Stopped

        network = build_model(ModelConfig(model="mlp", width=0.25), digits, seed=0)
        with contextlib.suppress(Stopped):
            fit(network, digits, SHORT, objective, seed=0, report=report, checkpoints=folder)
        return float(extra)

    whole = run(0, None)
    assert whole != 1.0
    run(1, tmp_path)
    assert run(0, tmp_path) == whole


@settings(max_examples=50, deadline=None)
@given(
    schedule=st.sampled_from(["constant", "cosine", "step"]),
    epochs=st.integers(1, 50),
    total=st.integers(1, 100),
    warmup=st.floats(0, 5),
    rate=st.floats(1e-5, 1),
    share=st.floats(0, 1),
)
def test_the_step_size_stays_between_nothing_and_what_was_asked(schedule, epochs, total, warmup, rate, share):
    config = FitConfig(epochs=epochs, learning_rate=rate, schedule=schedule, warmup_epochs=warmup)
    step = int(share * (epochs * total - 1))
    rate_at = float(learning_rate(config, step, total))
    assert -1e-9 <= rate_at <= rate * (1 + 1e-5)
    if schedule == "constant" and step >= warmup * total:
        assert rate_at == pytest.approx(rate, rel=1e-5)


def test_the_schedules_fall_where_they_should():
    def rates(schedule, **more):
        config = FitConfig(epochs=8, learning_rate=1.0, schedule=schedule, **more)
        return [float(learning_rate(config, step, 10)) for step in range(80)]

    cosine = rates("cosine")
    assert cosine[0] == 1
    assert cosine[40] == pytest.approx(0.5)
    assert cosine[79] < 0.001
    np.testing.assert_allclose(np.array(rates("step"))[[0, 39, 40, 59, 60]], [1, 1, 0.1, 0.1, 0.01], rtol=1e-5)
    np.testing.assert_allclose(rates("constant", warmup_epochs=2)[:21], [*np.arange(1, 21) / 20, 1], rtol=1e-5)


def test_derived_seeds_differ_and_stay_what_they_are():
    seeds = {derived(seed, epoch, part) for seed in range(5) for epoch in range(5) for part in range(3)}
    assert len(seeds) == 75
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived(7, 1, 0) == int.from_bytes(hashlib.sha256(b"7:1:0").digest()[:8]) >> 1
