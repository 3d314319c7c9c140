"""Train a model from the labels."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.artifact import ModelArtifact, Role
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence import plots
from tasks.formats.keras import files as keras
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.training.devices import TrainingConfig, trained_on
from tasks.training.loop import EpochReport, FitConfig, fit
from tasks.training.losses import supervised
from tasks.training.mistakes import label_loss
from tasks.zoo import ModelConfig, build_model

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
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> "tf.keras.Model":
    """Train a model in place on the labels alone; returns it with the weights of its best epoch.

    Args:
        model: its inputs and outputs in the order of the data's.
        data: what is learned.
        config: how; with no epochs the model comes back as it is.
        seed: the same one gives the same weights.
        report: called after each epoch.
        checkpoints: a folder from which a killed training goes on.
        training: what it runs on.

    Raises:
        RecipeError: fewer devices than are asked for.
        SlimlineError: the loss is no number any more.

    """
    objective = supervised(label_loss(data))
    fit(model, data, config, objective, seed=seed, report=report, checkpoints=checkpoints, training=training)
    return model


@stage("train-{role}", pauses=lambda arguments: arguments["role"] == "student")
def train_model(
    run: StageRun,
    role: Role,
    model: ModelConfig,
    own: ModelArtifact | None,
    data: DataArtifact,
    config: FitConfig,
    seed: int,
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> ModelArtifact:
    """Build the model, or take the person's `own`, train it, and keep it."""
    dataset = open_prepared(data)
    trained = keras.load(tracking.fetch(own)) if own else build_model(model, dataset, seed=seed, field=role)
    trained = train(
        trained, dataset, config, seed=seed, report=run.epoch, checkpoints=run.checkpoints, training=training
    )
    run.tell(trained_on(training))
    if run.history:
        run.figure(plots.learning_curves(run.history), "learning_curves.png")
    return run.keep(lambda folder: keras.write(trained, folder), "keras", metrics=run.best())
