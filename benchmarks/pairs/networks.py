"""The four networks in float: the official ones where they are brought, the zoo's, trained a little, where not."""

from pathlib import Path

import numpy as np

from benchmarks.conversion.official import OFFICIAL_MODELS, OfficialPaths, recipe_of
from benchmarks.conversion.subjects import Subject, cifar10, subject
from tasks.data import open_data
from tasks.training.loop import FitConfig
from tasks.zoo import build_model

OFFICIAL = {paths.recipe.removeprefix("mlperf_tiny_"): paths for paths in OFFICIAL_MODELS}
CALIBRATION = 512  # train inputs that set ranges, as in a recipe that does not say


def network(
    name: str, data: Path | None, models: Path | None, kept: Path, *, images: int, epochs: int, seed: int
) -> Subject:
    """One of the four, with its test inputs and the inputs that set its ranges.

    Args:
        name: of `conversion.subjects.SHAPES`.
        data: the folder of CIFAR-10; none downloads it.
        models: the folder of the official models, if they are brought.
        kept: the folder of trained models.
        images: of CIFAR-10 to train on, where a network is trained.
        epochs: of training.
        seed: of weights and training.

    """
    if models and data and name in OFFICIAL:
        return official(name, OFFICIAL[name], data, models)
    cifar = open_data(cifar10(data, images))
    made = subject(name, cifar, kept, FitConfig(epochs=epochs, batch_size=64), seed, CALIBRATION)
    says = f"The zoo's, trained for {epochs} epochs on {images:,} images: {made.says}"
    return Subject(made.name, says, made.model, made.data, made.x, made.y, made.examples)


def official(name: str, paths: OfficialPaths, data: Path, models: Path) -> Subject:
    """An official model, as it is. Where its data are its official inputs alone, it is measured on all of them."""
    recipe = recipe_of(paths, models, data)
    opened = open_data(recipe.data)
    model = build_model(recipe.teacher, opened, seed=recipe.seed, field="teacher")
    examples, _ = opened.sample("train", CALIBRATION)
    if paths.images:
        x, y = opened.arrays("test")
        return Subject(name, "The official model, as it is; CIFAR-10's test images", model, opened, x, y, examples)
    inputs = np.load(models / paths.inputs)
    says = f"The official model, as it is; the official inputs, of which {len(examples)} set ranges, without labels"
    x, y = inputs["x"].astype(np.float32), inputs["y"].astype(np.int64)
    return Subject(name, says, model, opened, x, y, examples)
