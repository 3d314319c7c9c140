"""What trainings run on. There is no GPU here: a processor that is cut into several devices takes their place."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import on_devices
import pytest
from on_devices import normed
from small_training import SHORT, trained

from tasks.contract.artifact import digest_folder
from tasks.contract.errors import RecipeError
from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as keras
from tasks.prepare import prepare_data
from tasks.store import tracking
from tasks.train import train_model
from tasks.training.checkpoint import CHECKPOINT
from tasks.training.devices import TrainingConfig, check_devices, on_processor, placed, trained_on
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import supervised
from tasks.training.mistakes import label_loss
from tasks.zoo import ModelConfig

NEAR = 1e-4  # of a loss: how far rounding may move it where a batch is added up in parts

HALVES = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=150, shift=1))


def in_own_process(*arguments):
    command = [sys.executable, on_devices.__file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer_of(*arguments):
    with in_own_process(*arguments) as process:
        out, told = process.communicate()
    assert process.returncode == 0, told[-3000:]
    return json.loads(out)


@pytest.fixture(scope="module")
def curves():
    return answer_of("curves")


@pytest.mark.parametrize(
    ("kind", "devices"), [("mlp", "2"), ("mlp", "4"), ("a last batch of one", "4"), ("normed and taught", "2")]
)
def test_several_devices_learn_what_one_does(curves, kind, devices):
    one, several = np.array(curves[kind]["cpu"]), np.array(curves[kind][devices])
    assert one.shape == (on_devices.EPOCHS, 2)
    assert one[-1, 0] < 0.98 * one[0, 0], "it learns"
    np.testing.assert_allclose(several, one, rtol=NEAR)


def test_what_each_device_moves_by_itself_is_the_same_on_all_before_it_is_kept(curves):
    assert curves["agreed"] == [1.5, 1.5]


def test_a_training_on_two_devices_that_was_killed_ends_as_one_that_was_not(tmp_path):
    with in_own_process("linger", tmp_path) as process:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGKILL)
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    ended = answer_of("train", tmp_path)
    assert ended["first step"] == 4, "the first epoch is not trained again"
    assert len(ended["losses"][0]) == 3
    assert ended["losses"][0] == ended["losses"][1]
    assert ended["weights"][0] == ended["weights"][1]


@pytest.mark.parametrize("precision", HALVES)
def test_what_trained_in_half_precision_is_an_ordinary_model(digits, tmp_path, precision):
    plain, history = trained(digits)
    mixed, mixed_history = trained(digits, training=TrainingConfig(precision=precision))
    assert mixed.to_json() == plain.to_json()
    assert {part.dtype_policy.name for part in mixed._flatten_layers()} == {"float32"}
    assert {weight.dtype.name for weight in mixed.weights} == {"float32"}
    assert mixed(digits.arrays("test")[0]).dtype.name == "float32"
    one, other = ([values["loss"] for values in each] for each in (history, mixed_history))
    assert one != other, "it did not train in half precision"
    np.testing.assert_allclose(other, one, rtol=0.03)
    keras.write(mixed, tmp_path)
    again = keras.load(tmp_path)
    assert {part.dtype_policy.name for part in again._flatten_layers()} == {"float32"}
    assert all(np.array_equal(a, b) for a, b in zip(mixed.get_weights(), again.get_weights(), strict=True))


@pytest.mark.parametrize("precision", HALVES)
def test_the_layers_in_between_compute_in_half_precision(precision):
    model = normed()
    with placed(model, TrainingConfig(precision=precision)) as (copy, _):
        computed = {layer.name: layer.dtype_policy.name for layer in copy.layers}
        assert copy(np.zeros((1, 8, 8, 1), np.float32)).dtype.name == "float32"
    half = {name for name, policy in computed.items() if policy == precision}
    assert half == {"conv", "norm", "relu", "dropout", "flatten"}
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


@pytest.mark.parametrize("times", [1, 1000])
def test_a_training_in_float16_goes_on_with_its_loss_scale(digits, tmp_path, times):
    by_labels = label_loss(digits)
    objective = supervised(lambda *given: times * by_labels(*given))  # at its scale too large for float16
    config = FitConfig(epochs=3, batch_size=32, learning_rate=0.01)
    training = TrainingConfig(precision="mixed_float16")

    def run(folder=None, stop_after=0):
        model, losses = normed(dropout=0.3), []

        def report(epoch, _epochs, values):
            losses.append(values["loss"])
            if epoch == stop_after:
                raise InterruptedError

        fit(model, digits, config, objective, seed=1, report=report, checkpoints=folder, training=training)
        return model.get_weights(), losses

    whole, losses = run()
    assert all(np.isfinite(weight).all() for weight in whole)
    with pytest.raises(InterruptedError):
        run(tmp_path, stop_after=1)
    with np.load(tmp_path / CHECKPOINT) as kept:
        scale, _ = (kept[f"state{number}"] for number in range(len(kept) - 3 - len(whole), len(kept) - 1 - len(whole)))
    assert scale == 2**15 if times == 1 else 2 <= scale < 2**15, "where it began, or how far it fell"
    continued, again = run(tmp_path)
    assert again == losses
    assert all(np.array_equal(a, b) for a, b in zip(continued, whole, strict=True))


def test_where_there_is_no_gpu_auto_is_the_processor_bit_by_bit(digits, tmp_path):
    for name, training in (("cpu", TrainingConfig()), ("auto", TrainingConfig(devices="auto"))):
        (tmp_path / name).mkdir()
        keras.write(trained(digits, training=training)[0], tmp_path / name)
    assert digest_folder(tmp_path / "auto") == digest_folder(tmp_path / "cpu")


def test_a_checkpoint_of_another_precision_is_as_none(digits, tmp_path):
    trained(digits, stop_after=1, checkpoints=tmp_path)
    steps = []
    trained(digits, checkpoints=tmp_path, on_step=steps.append, training=TrainingConfig(precision="mixed_bfloat16"))
    assert steps[0] == 0


@pytest.mark.parametrize("devices", ["gpu", "2"])
def test_devices_that_are_not_there_are_refused(digits, devices):
    with pytest.raises(RecipeError, match=r"training\.devices: '.+': TensorFlow finds no GPU here: write cpu"):
        trained(digits, SHORT, training=TrainingConfig(devices=devices))


@pytest.mark.parametrize("devices", ["", "0", "-1", "tpu", "2.5", "gpu:0", "cpu\n"])
def test_what_names_no_devices_is_refused(devices):
    with pytest.raises(ValueError, match="should match pattern"):
        TrainingConfig(devices=devices)


def test_gpus_are_hidden_until_a_recipe_asks(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    check_devices(TrainingConfig(precision="mixed_bfloat16"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    check_devices(TrainingConfig(devices="auto"))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    check_devices(TrainingConfig(devices="auto"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1", "a person has chosen"


def test_what_is_no_training_stays_on_the_processor(monkeypatch):
    import tensorflow as tf

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with on_processor():
        graph = tf.Graph()
        with graph.as_default(), on_processor():
            assert tf.zeros(1).op.device == "/device:CPU:0"


def test_only_what_is_not_plain_needs_a_word():
    assert trained_on(TrainingConfig()) == ""
    assert trained_on(TrainingConfig(precision="mixed_bfloat16")).startswith(
        "CPU, mixed_bfloat16: the same seed repeats"
    )


@pytest.mark.usefixtures("store", "prefect_server")
def test_a_stage_says_what_it_trained_on_where_that_needs_a_word():
    data = prepare_data(DataConfig(reader="digits", limit=150))
    model = ModelConfig(model="mlp", width=0.25)
    plain, mixed = (
        train_model("teacher", model, None, data, FitConfig(epochs=1), 0, training)
        for training in (TrainingConfig(), TrainingConfig(devices="auto", precision="mixed_bfloat16"))
    )
    assert plain.sha256 != mixed.sha256
    of_plain, of_mixed = (tracking.client().get_run(artifact.run).data for artifact in (plain, mixed))
    assert "slimline.trained_on" not in of_plain.tags
    assert of_mixed.tags["slimline.trained_on"].startswith("CPU, mixed_bfloat16")
    assert of_mixed.params["training.devices"] == "auto"
    assert {part.dtype_policy.name for part in keras.load(tracking.fetch(mixed))._flatten_layers()} == {"float32"}
