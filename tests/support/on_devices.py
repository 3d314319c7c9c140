"""Trainings on several devices, in a process of its own: a processor is cut into so many before TensorFlow has begun.

`python on_devices.py curves` prints the losses of each training by the devices that it ran on; `train FOLDER` what one
on two devices ends with, gone on with from its checkpoint, and without one; `linger FOLDER` never ends it.
"""

import contextlib
import hashlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from small_training import Stopped

from tasks.data import DataConfig, open_data
from tasks.training.devices import Replicas, TrainingConfig
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Teaching, supervised
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import taught_by
from tasks.zoo import ModelConfig, build_model

DIGITS = DataConfig(reader="digits", limit=150, shift=1)
EPOCHS = 3
RATES = {"adam": 0.01, "sgd": 0.05}


def normed(*, dropout: float = 0.0, seed: int = 3):
    """A model with what looks at a whole batch: normalization, and a penalty that counts once."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    penalty = tf.keras.regularizers.L2(0.01)
    x = layers.Conv2D(4, 3, use_bias=False, kernel_regularizer=penalty, name="conv")(
        layers.Rescaling(1 / 16, name="scale")(inputs)
    )
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(dropout, name="dropout")(layers.Flatten(name="flatten")(x))
    return tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="out")(x), name="normed")


def trained(
    model, data, batch_size, devices, objective=None, *, epochs=EPOCHS, stop_after=0, optimizer="adam", **options
):
    """Its history after a training on these devices; `stop_after` interrupts it as a failure would."""
    history = []

    def report(epoch, _epochs, values):
        history.append(values)
        if epoch == stop_after:
            raise Stopped

    config = FitConfig(epochs=epochs, batch_size=batch_size, optimizer=optimizer, learning_rate=RATES[optimizer])
    with contextlib.suppress(Stopped):
        fit(
            model,
            data,
            config,
            objective or supervised(label_loss(data)),
            seed=5,
            report=report,
            training=TrainingConfig(devices=devices),
            **options,
        )
    return history


def losses(history):
    return [(values["loss"], values["validation_loss"]) for values in history]


def digest(model):
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()


def curves():
    data = open_data(DIGITS)
    teaching = Teaching(hint="attention", teacher_layers=("relu",), student_layers=("relu",))
    few = data.counts["train"] - 1  # the last batch has one example, fewer than there are devices

    def small(size, devices):  # gradients that are too large by a factor are all the same to adam
        network = build_model(ModelConfig(model="mlp", width=0.25), data, seed=5)
        return losses(trained(network, data, size, devices, optimizer="sgd"))

    taught = taught_by(data, normed(seed=8), teaching, stage="distill")
    return {
        "agreed": agreed(),
        "mlp": {devices: small(31, devices) for devices in ("cpu", "2", "4")},
        "a last batch of one": {devices: small(few, devices) for devices in ("cpu", "4")},
        "normed and taught": {
            devices: losses(trained(normed(), data, 32, devices, taught)) for devices in ("cpu", "2")
        },
    }


def agreed():
    """What two devices have of a variable that each moved by itself, once they agree."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        own = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": tf.VariableAggregation.MEAN}
        variable = tf.Variable(0.0, trainable=False, **own)
        number = strategy.experimental_distribute_values_from_function(lambda here: 1.0 + here.replica_id_in_sync_group)
        strategy.run(variable.assign, (number,))
        Replicas(strategy).agree([variable])
    return [float(each) for each in strategy.experimental_local_results(variable)]


def killed(folder, *, linger):
    data = open_data(DIGITS)
    steps = []

    def on_step(step):
        steps.append(step)
        if linger and step == 6:  # inside the second epoch of four steps
            sys.stdout.write("inside\n")
            sys.stdout.flush()
            time.sleep(600)

    continued, whole = normed(dropout=0.3), normed(dropout=0.3)
    history = trained(continued, data, 32, "2", epochs=3, checkpoints=folder, on_step=on_step)
    at_once = trained(whole, data, 32, "2", epochs=3)
    return {
        "first step": steps[0],
        "weights": [digest(continued), digest(whole)],
        "losses": [losses(history), losses(at_once)],
    }


if __name__ == "__main__":
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 4)
    with tf.device("/CPU:0"):  # as stages run
        what, *folder = sys.argv[1:]
        answer = curves() if what == "curves" else killed(Path(*folder), linger=what == "linger")
        sys.stdout.write(json.dumps(answer))
