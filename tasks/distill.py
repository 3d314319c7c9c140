"""Train a student on what a teacher says of the examples, beside their labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field, model_validator

from tasks import plots, tracking
from tasks.artifact import ModelArtifact
from tasks.data import DataConfig, Dataset, open_data
from tasks.fit import EpochReport, FitConfig, fit
from tasks.formats import keras
from tasks.objectives import Teaching, features, softened
from tasks.stage import StageRun, stage
from tasks.zoo import ModelConfig, build_model

if TYPE_CHECKING:
    import tensorflow as tf


class DistillConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How the teacher teaches the student."""

    method: Literal["none", "soft_targets", "features"] = Field(
        "none",
        description="Not at all; by its softened predictions (Hinton, 2015); or by those and the output of one of its "
        "layers (FitNets, 2015).",
        json_schema_extra={"position": 0},
    )
    temperature: float = Field(
        4.0,
        ge=1,
        le=100,
        description="Softens the teacher's probabilities: higher shows the student more of how it confuses classes.",
        json_schema_extra={"position": 1},
    )
    mix: float = Field(
        0.7,
        ge=0,
        le=1,
        description="The teacher's share of the loss: higher trusts it more and the labels less; 0 leaves it out.",
        json_schema_extra={"position": 2},
    )
    teacher_layer: str = Field(
        "",
        description="For features: the teacher's layer whose output the student imitates.",
        json_schema_extra={"position": 3},
    )
    student_layer: str = Field(
        "",
        description="For features: the student's layer that imitates it; of the same height and width.",
        json_schema_extra={"position": 4},
    )
    feature_weight: float = Field(
        1.0,
        gt=0,
        le=1_000,
        description="For features: weight of their distance beside the other loss; higher imitates more closely.",
        json_schema_extra={"position": 5},
    )
    fit: FitConfig = Field(
        FitConfig(), description="How long and how fast the student learns.", json_schema_extra={"position": 6}
    )

    @property
    def teaching(self) -> Teaching:
        """How the teacher counts, for the stages that fine-tune the student later."""
        return Teaching(temperature=self.temperature, mix=self.mix)

    @model_validator(mode="after")
    def _layers_for_features(self) -> Self:
        if self.method == "features" and not (self.teacher_layer and self.student_layer):
            raise ValueError(
                "method: 'features' needs teacher_layer and student_layer, such as 'block4_relu' of a zoo cnn"
            )
        return self


def distill(
    student: "tf.keras.Model",
    teacher: "tf.keras.Model",
    data: Dataset,
    config: DistillConfig,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
) -> "tf.keras.Model":
    """Train a student in place under a teacher, which is left as it was; returns it with the weights of its best epoch.

    Args:
        student: from `(batch, *data.input_shape)` to `(batch, *data.output_shape)`.
        teacher: of the same shapes.
        data: what is learned.
        config: how; method `none` learns from the labels alone.
        seed: the same one gives the same weights.
        report: told of each epoch.
        checkpoints: a folder from which a killed training goes on.

    Raises:
        ModelError: a layer for feature matching that is not there, or does not correspond.
        SlimlineError: the loss is no number any more.

    """
    teaching = config.teaching if config.method != "none" else Teaching(mix=0)
    objective = softened(data.config.problem, data.variance, teacher, teaching)
    extra: list[tf.Variable] = []
    if config.method == "features":
        layers = (config.student_layer, config.teacher_layer)
        objective, extra = features(student, teacher, *layers, config.feature_weight, objective)
    fit(student, data, config.fit, objective, seed=seed, report=report, checkpoints=checkpoints, extra_weights=extra)
    return student


@stage("distill")
def distill_student(
    run: StageRun, student: ModelConfig, teacher: ModelArtifact, data: DataConfig, config: DistillConfig, seed: int
) -> ModelArtifact:
    """Build or import the student, have the teacher teach it, and keep it."""
    dataset = open_data(data)
    taught = build_model(student, dataset, seed=seed, field="student")
    knowing = keras.load(tracking.fetch(teacher))
    taught = distill(taught, knowing, dataset, config, seed=seed, report=run.epoch, checkpoints=run.checkpoints)
    run.figure(plots.learning_curves(run.history), "learning_curves.png")
    return run.keep(lambda folder: keras.write(taught, folder), "keras", parent=teacher, metrics=run.best())
