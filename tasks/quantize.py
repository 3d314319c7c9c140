"""From floats to integers: where tensors are held to 8 bits, with which ranges, and how the model gets used to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from tasks import plots, tracking
from tasks.artifact import ModelArtifact, Precision
from tasks.data import DataConfig, Dataset, open_data
from tasks.fit import EpochReport, FitConfig, fit
from tasks.formats import keras
from tasks.objectives import Teaching, softened, supervised
from tasks.ranges import fake_quantized
from tasks.stage import StageRun, stage

if TYPE_CHECKING:
    import tensorflow as tf


class QuantizeConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How floats become integers."""

    method: Literal["none", "training", "post_training"] = Field(
        "none",
        description="Not at all; by fine-tuning a model that already computes as if in integers (Jacob et al. 2018); "
        "or by looking at examples only, which takes seconds and costs more accuracy.",
        json_schema_extra={"position": 0},
    )
    precision: Literal["int8", "dynamic", "float16"] = Field(
        "int8",
        description="For post_training: int8 throughout; dynamic with int8 kernels and ranges found anew for each "
        "input; float16 kernels at half the size. For training it is int8.",
        json_schema_extra={"position": 1},
    )
    calibration_examples: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Training examples that set the ranges: more catch rarer values, and make steps coarser for it.",
        json_schema_extra={"position": 2},
    )
    preserve_sparsity: bool = Field(
        True,
        description="For training: keep weights that pruning made zero at zero.",
        json_schema_extra={"position": 3},
    )
    fit: FitConfig = Field(
        FitConfig(epochs=5, learning_rate=1e-4),
        description="For training: how long and how fast the model gets used to integers.",
        json_schema_extra={"position": 4},
    )

    @property
    def result(self) -> Precision:
        """What the files made of the result are to be computed in."""
        if self.method == "none":
            return "float32"
        return "int8" if self.method == "training" else self.precision


def quantize(
    student: "tf.keras.Model",
    data: Dataset,
    config: QuantizeConfig,
    *,
    teacher: "tf.keras.Model | None",
    teaching: Teaching,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
) -> "tf.keras.Model":
    """A fake-quantized model: what it computes is what integer kernels will.

    Ranges are first set by examples, since a range that is off by much gives training nothing to start from. Then, for
    `training`, the model is fine-tuned with gradients passed straight through the rounding, while the ranges follow it.

    Args:
        student: left as it is.
        data: what calibrates (train) and what is learned.
        config: how. For post-training in float16 or dynamic range there is nothing to do before the files are written,
            and the student comes back.
        teacher: keeps teaching during the fine-tuning; none learns from the labels.
        teaching: how the teacher counts.
        seed: the same one gives the same weights.
        report: told of each epoch.
        checkpoints: a folder from which a killed training goes on.

    Raises:
        ConversionError: the student is no graph of layers.
        SlimlineError: the loss is no number any more.

    """
    if config.result != "int8":
        return student
    examples, _ = data.arrays("train", limit=config.calibration_examples)
    held = fake_quantized(student, examples, keep_zeros=config.preserve_sparsity)
    if config.method == "training":
        problem, variance = data.config.problem, data.variance
        objective = supervised(problem, variance) if teacher is None else softened(problem, variance, teacher, teaching)
        fit(held, data, config.fit, objective, seed=seed, report=report, checkpoints=checkpoints)
    return held


@stage("quantize")
def quantize_student(
    run: StageRun,
    student: ModelArtifact,
    teacher: ModelArtifact,
    data: DataConfig,
    config: QuantizeConfig,
    teaching: Teaching,
    seed: int,
) -> ModelArtifact:
    """Quantize the student under its teacher, and keep the fake-quantized model that every int8 file is made from."""
    if config.result != "int8":  # the files' writers do it: the same model, to be run in other numbers
        return student.model_copy(update={"stage": run.stage, "precision": config.result})
    held = quantize(
        keras.load(tracking.fetch(student)),
        open_data(data),
        config,
        teacher=keras.load(tracking.fetch(teacher)),
        teaching=teaching,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
    )
    if run.history:
        run.figure(plots.learning_curves(run.history), "learning_curves.png")
    return run.keep(
        lambda folder: keras.write(held, folder), "keras", precision="int8", parent=student, metrics=run.best()
    )
