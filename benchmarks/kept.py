"""Models that a benchmark trains once and keeps: under a name that tells what they were made from."""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.say import say
from tasks.data import Dataset
from tasks.formats.keras import files as keras
from tasks.train import train
from tasks.training.loop import FitConfig
from tasks.zoo import ModelConfig, build_model

if TYPE_CHECKING:
    import tensorflow as tf


def trained(
    what: str, config: ModelConfig, data: Dataset, fit: FitConfig, seed: int, kept: Path
) -> "tuple[tf.keras.Model, Path]":
    """A model trained from the labels, or as it was kept when it was last trained so; a killed training goes on.

    Args:
        what: the name that the folder begins with.
        config: the architecture.
        data: what is learned.
        fit: how it is trained.
        seed: of weights and training.
        kept: the folder that holds the folders.

    Returns:
        The model, and the folder with its file and `training.json`: seconds and figures of each epoch.

    """
    model = build_model(config, data, seed=seed)
    made_from = {
        "architecture": model.get_config(),
        "data": [data.digest, data.config.treatment],
        "fit": fit.model_dump(mode="json"),
        "seed": seed,
        "libraries": {library: version(library) for library in ("numpy", "tensorflow", "tf-keras")},
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()
    folder = kept / f"{what}-{key[:12]}"
    if (folder / keras.FILE).exists():
        say(f"{what}: trained before, {folder.name}")
        return keras.load(folder), folder
    folder.mkdir(parents=True, exist_ok=True)
    epochs: list[dict[str, float]] = []
    tell = reporter(what)

    def report(epoch: int, of: int, values: dict[str, float]) -> None:
        epochs.append(values)
        tell(epoch, of, values)

    train(model, data, fit, seed=seed, report=report, checkpoints=folder)
    (folder / "training.json").write_text(json.dumps(epochs, indent=1) + "\n")
    keras.write(model, folder)  # last: what is there is whole
    return keras.load(folder), folder


def reporter(what: str) -> Callable[[int, int, dict[str, float]], None]:
    """Says each epoch in a line."""

    def report(epoch: int, epochs: int, values: dict[str, float]) -> None:
        say(f"{what}, epoch {epoch}/{epochs}: score {values['validation_score']:.3f}, {values['seconds']:.0f} s")

    return report
