"""Train a model from the labels."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data import Dataset
from tasks.fit import EpochReport, FitConfig, fit
from tasks.objectives import supervised

if TYPE_CHECKING:
    import tensorflow as tf


def train(
    model: "tf.keras.Model",
    data: Dataset,
    config: FitConfig,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
) -> "tf.keras.Model":
    """Train a model in place on the labels alone; returns it with the weights of its best epoch.

    Args:
        model: from `(batch, *data.input_shape)` to `(batch, *data.output_shape)`.
        data: what is learned.
        config: how; with no epochs the model comes back as it is.
        seed: the same one gives the same weights.
        report: told of each epoch.
        checkpoints: a folder from which a killed training goes on.

    Raises:
        SlimlineError: the loss is no number any more.

    """
    objective = supervised(data.config.problem, data.variance)
    fit(model, data, config, objective, seed=seed, report=report, checkpoints=checkpoints)
    return model
