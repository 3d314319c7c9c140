"""Trainings on a GPU beside the same ones on the processor: `make test-gpu`, where TensorFlow finds one."""

import os

import numpy as np
import on_devices
import pytest
from on_devices import losses, normed
from small_training import SHORT, trained
from zoo_ends import ends_for

from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as keras
from tasks.prepare import prepare_data
from tasks.store import tracking
from tasks.train import train_model
from tasks.training.devices import TrainingConfig, check_devices, names, on_processor
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Teaching, supervised
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import taught_by
from tasks.zoo import ARCHITECTURES, ModelConfig, build_model

pytestmark = pytest.mark.gpu

GPU = TrainingConfig(devices="gpu")
# how far losses may be from the processor's, where a GPU multiplies by TF32 (10 bits of fraction) or by less
NEAR = {"float32": 0.02, "mixed_float16": 0.05, "mixed_bfloat16": 0.08}


@pytest.fixture(scope="module", autouse=True)
def there():
    """A GPU, of which each process takes what it needs and no more."""
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    check_devices(TrainingConfig(devices="auto"))
    if not names(TrainingConfig(devices="auto")):
        pytest.skip("TensorFlow finds no GPU here")
    with on_processor():  # as stages run
        yield


def data_for(name, folder):
    """Examples that the smallest model of an architecture can learn something of."""
    ends, draws = ends_for(name), np.random.default_rng(0)
    (shape,), (out,) = ([end.shape for end in each] for each in (ends.inputs, ends.outputs))
    problem = ARCHITECTURES[name].problems[0]
    if ARCHITECTURES[name].of_words and ARCHITECTURES[name].rank != 2:
        y = draws.integers(0, 3, 200)
        lines = [f"{' '.join(draws.choice(['so', 'such', 'one', 'kind'[label:]], 6))},{label}" for label in y]
        (folder / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        texts = {"reader": "table", "table": {"texts": "text"}, "target": "label"}
        return open_data(DataConfig(source=str(folder / "texts.csv"), **texts))
    x = draws.normal(size=(200, *shape)).astype(np.float32)
    arrays = {"x": x}
    if problem == "classification":
        x[: len(x) // 2] += 1
        arrays["y"] = np.arange(len(x)) * 2 // len(x) + draws.integers(0, out[-1] - 1, len(x))
        if ARCHITECTURES[name].steps:  # an answer for each pixel
            arrays["y"] = (x[..., 0] > 0).astype(np.int64) + (x[..., 0] > 1)
    np.savez(folder / "examples.npz", **arrays)
    return open_data(DataConfig(reader="npz", source=str(folder / "examples.npz"), problem=problem))


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_gpu_learns_what_the_processor_does_and_again_the_same(tmp_path, name, precision):
    data, config = data_for(name, tmp_path), FitConfig(epochs=2, batch_size=32, optimizer="sgd", learning_rate=0.01)
    training = TrainingConfig(devices="gpu", precision=precision)
    _, here = trained(data, config, model=name)
    (one, there), (other, again) = (trained(data, config, model=name, training=training) for _ in range(2))
    assert np.isfinite(losses(there)).all()
    assert losses(there) != losses(here), "it was trained on the processor"
    np.testing.assert_allclose(losses(there), losses(here), rtol=NEAR[precision])
    assert losses(again) == losses(there)
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert {weight.dtype.name for weight in one.weights} <= {"float32", "int64"}


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=150, shift=1))


@pytest.mark.parametrize("precision", NEAR)
def test_a_training_that_was_stopped_ends_as_one_that_was_not(digits, tmp_path, precision):
    training = TrainingConfig(devices="gpu", precision=precision)
    whole, history = trained(digits, SHORT, training=training)
    trained(digits, SHORT, training=training, checkpoints=tmp_path, stop_after=1)
    steps = []
    continued, again = trained(digits, SHORT, training=training, checkpoints=tmp_path, on_step=steps.append)
    assert steps[0] == 4, "the first epoch is not trained again"
    assert losses(again) == losses(history)
    assert all(np.array_equal(a, b) for a, b in zip(continued.get_weights(), whole.get_weights(), strict=True))


def test_a_student_is_taught_on_it(digits):
    teaching = Teaching(hint="attention", teacher_layers=("relu",), student_layers=("relu",))
    taught, learned = taught_by(digits, normed(seed=8), teaching, stage="distill"), {}
    for devices in ("cpu", "gpu"):
        learned[devices] = losses(on_devices.trained(normed(), digits, 32, devices, taught, optimizer="sgd"))
    np.testing.assert_allclose(learned["gpu"], learned["cpu"], rtol=NEAR["float32"])


def test_what_is_no_training_stays_on_the_processor(digits):
    network = build_model(ModelConfig(model="mlp", width=0.25), digits, seed=5)
    answers = network(digits.arrays("test")[0])
    assert answers.device.endswith("CPU:0")
    fit(network, digits, SHORT, supervised(label_loss(digits)), seed=5, report=lambda *_: None, training=GPU)
    assert all(weight.value().device.endswith("CPU:0") for weight in network.weights)


@pytest.mark.usefixtures("store", "prefect_server")
def test_a_stage_keeps_an_ordinary_model_and_says_which_gpu_it_was():
    import tensorflow as tf

    data = prepare_data(DataConfig(reader="digits", limit=150))
    model = ModelConfig(model="mlp", width=0.25)
    artifact = train_model("teacher", model, None, data, FitConfig(epochs=1), 0, GPU)
    said = tracking.client().get_run(artifact.run).data.tags["slimline.trained_on"]
    device, *_ = tf.config.list_physical_devices("GPU")
    assert tf.config.experimental.get_device_details(device)["device_name"] in said
    kept = keras.load(tracking.fetch(artifact))
    assert {part.dtype_policy.name for part in kept._flatten_layers()} == {"float32"}
