"""Tiny models that learned the digits, and files of theirs to validate."""

from pathlib import Path

from tasks.contract.artifact import digest_folder
from tasks.convert import convert
from tasks.data import Dataset
from tasks.formats.keras import files as keras_format
from tasks.validate import MeasuredFile, ValidateConfig

QUICK = ValidateConfig(latency_rounds=20, warmup_rounds=2, latency_seconds=2, throughput_batch=32)


def network(data: Dataset, width: int, name: str):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(width)
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.InputLayer(data.input.shape, name="image"),
            layers.Rescaling(1 / 16, name="scale"),
            layers.Conv2D(width, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
            layers.Softmax(name="probabilities"),
        ],
        name=name,
    )


def learned(data: Dataset, width: int, epochs: int, name: str):
    model = network(data, width, name)
    x, y = data.arrays("train")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
    return model


def file(role, target, precision, model, data, root: Path) -> MeasuredFile:
    keras = root / f"{role}-keras"
    if not keras.exists():
        keras.mkdir(parents=True)
        keras_format.write(model, keras)
    folder = root / f"{role}-{target}-{precision}"
    folder.mkdir()
    convert(model, target, precision, folder, data)
    return MeasuredFile(
        role=role,
        target=target,
        precision=precision,
        folder=folder,
        keras=keras,
        sha256=digest_folder(folder),
        keras_sha256=digest_folder(keras),
        shipped=role == "compressed",
    )
