"""What is converted: the reference architectures of MLPerf Tiny, each trained a little on data of its shape."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.say import say
from tasks.contract.problem import Problem
from tasks.data import SPLITS, DataConfig, Dataset, open_data
from tasks.formats.keras import files as keras
from tasks.train import train
from tasks.training.loop import FitConfig
from tasks.zoo import ModelConfig, build_model

if TYPE_CHECKING:
    import tensorflow as tf

Bytes = npt.NDArray[np.uint8]
LIVING = (2, 3, 4, 5, 6, 7)  # CIFAR-10's labels of animals; the others are vehicles
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class SubjectShape:
    """How an architecture of the zoo meets CIFAR-10.

    size: height and width that images `(n, 32, 32, 3)` are resized to. grey: one channel. flat: as vectors.
    says: what a reader of the table has to know of it.
    """

    problem: Problem
    size: tuple[int, int]
    grey: bool = False
    flat: bool = False
    two_classes: bool = False
    learning_rate: float = 0.003
    says: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        if self.problem != "classification":
            return ()
        return ("vehicle", "animal") if self.two_classes else CIFAR


SHAPES: dict[str, SubjectShape] = {
    "resnet8": SubjectShape("classification", (32, 32), says="CIFAR-10 as it is, 10 classes"),
    "ds_cnn": SubjectShape("classification", (49, 10), grey=True, says="CIFAR-10 in grey at 49x10, 10 classes"),
    "mobilenet": SubjectShape(
        "classification",
        (64, 64),
        two_classes=True,
        says="CIFAR-10 at 64x64 (the reference has 96x96), animals against vehicles",
    ),
    "autoencoder": SubjectShape(
        "reconstruction", (20, 32), grey=True, flat=True, says="CIFAR-10 in grey at 20x32, as vectors"
    ),
}


@dataclass(frozen=True)
class Subject:
    """A trained model and what it is measured on.

    x: test inputs `(n, *data.input.shape)`, float32. y: their targets. examples: `(calibration, ...)` train inputs that
    every post-training route sets its ranges by.
    """

    name: str
    says: str
    model: "tf.keras.Model"
    data: Dataset
    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    examples: npt.NDArray[np.float32]


def cifar10(folder: Path | None, images: int) -> DataConfig:
    """CIFAR-10 from a folder with `train.parquet` and `test.parquet`, else downloaded; so many images of each."""
    places = {"reader": "keras", "source": "cifar10"}
    if folder:
        places = {"reader": "parquet", "source": f"{folder}/train.parquet", "test_source": f"{folder}/test.parquet"}
    return DataConfig.model_validate({**places, "limit": images})


def subject(name: str, cifar: Dataset, kept: Path, fit: FitConfig, seed: int, calibration: int) -> Subject:
    """An architecture of the zoo, trained, or as it was kept when it was last trained so.

    Args:
        name: of `SHAPES`.
        cifar: CIFAR-10.
        kept: a folder for data and trained models.
        fit: how it is trained.
        seed: of weights and training.
        calibration: how many train inputs set ranges.

    """
    shape = SHAPES[name]
    data = open_data(_reshaped(name, cifar, kept))
    fit = fit.model_copy(update={"learning_rate": shape.learning_rate})
    model = _trained(name, data, kept, fit, seed)
    x, y = data.arrays("test")
    return Subject(name, shape.says, model, data, x, y, data.sample("train", calibration)[0])


def _reshaped(name: str, cifar: Dataset, kept: Path) -> DataConfig:
    """CIFAR-10 in the architecture's shape, as an archive of its own."""
    shape = SHAPES[name]
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split in SPLITS:
        x, y = cifar.arrays(split)
        arrays[f"x_{split}"] = resized(x.astype(np.uint8), shape)
        if shape.problem == "classification":
            arrays[f"y_{split}"] = np.isin(y, LIVING).astype(np.int64) if shape.two_classes else y
    file = kept / f"{name}-{cifar.digest[:12]}.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its annotation takes no keyword but allow_pickle
    return DataConfig(reader="npz", source=str(file), problem=shape.problem, classes=shape.classes)


def resized(images: Bytes, shape: SubjectShape) -> Bytes:
    """Images `(n, 32, 32, 3)` as the shape has them: `(n, height, width, channels)` or `(n, values)`."""
    from PIL import Image

    height, width = shape.size
    mode = "L" if shape.grey else "RGB"
    taken = [
        np.asarray(Image.fromarray(image).convert(mode).resize((width, height), Image.Resampling.BILINEAR))
        for image in images
    ]
    resized = np.stack(taken).reshape(len(images), height, width, -1)
    return resized.reshape(len(images), -1) if shape.flat else resized


def _trained(name: str, data: Dataset, kept: Path, fit: FitConfig, seed: int) -> "tf.keras.Model":
    """The trained model, kept under a name that tells what it was made from."""
    model = build_model(ModelConfig(model=name), data, seed=seed)
    made_from = {
        "architecture": model.get_config(),
        "data": data.digest,
        "fit": fit.model_dump(mode="json"),
        "seed": seed,
        "libraries": {library: version(library) for library in ("numpy", "tensorflow", "tf-keras")},
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()
    folder = kept / f"{name}-model-{key[:12]}"
    if (folder / keras.FILE).exists():
        say(f"{name}: trained before, {folder.name}")
        return keras.load(folder)
    train(model, data, fit, seed=seed, report=reporter(f"{name}: training"))
    folder.mkdir(exist_ok=True)
    keras.write(model, folder)
    return keras.load(folder)


def reporter(what: str) -> Callable[[int, int, dict[str, float]], None]:
    """Says each epoch in a line."""

    def report(epoch: int, epochs: int, values: dict[str, float]) -> None:
        say(f"{what}, epoch {epoch}/{epochs}: score {values['validation_score']:.3f}, {values['seconds']:.0f} s")

    return report
