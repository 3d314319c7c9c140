"""Train a student on what a teacher answers to the examples, beside their labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field, model_validator

from tasks.contract.artifact import ModelArtifact
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence import plots
from tasks.formats.keras import files as keras
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.training.devices import TrainingConfig, trained_on
from tasks.training.loop import EpochReport, FitConfig, fit
from tasks.training.losses import Teaching, supervised
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import taught_by
from tasks.zoo import ModelConfig, build_model

if TYPE_CHECKING:
    import tensorflow as tf

DistillMethod = Literal["none", "soft_targets", "features", "attention", "relational"]


class DistillConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Distill"):
    """How the teacher teaches the student."""

    method: DistillMethod = Field(
        "none",
        description="What the student learns from before it is cut: the labels alone (none); the teacher's softened "
        "predictions too (Hinton, 2015); or also layers of it: their output (FitNets, 2015), where they look "
        "(attention, Zagoruyko and Komodakis 2017), how the examples lie to each other (relational, Park et al. 2019). "
        "With all of them predictions teach in prune and quantize; a mix of 0 leaves them out. They are asked once and "
        "kept, unless images change anew each epoch (data.views); layers show too much: they are asked at each step.",
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
        description="For features, attention and relational: the teacher's layer that the student imitates, or several "
        "separated by commas.",
        json_schema_extra={"position": 3},
    )
    student_layer: str = Field(
        "",
        description="For the same: the student's layers that imitate them, in the same order; for features and "
        "attention of the same height and width.",
        json_schema_extra={"position": 4},
    )
    feature_weight: float = Field(
        1.0,
        gt=0,
        le=1_000,
        description="For the same: weight of their distance beside the other loss; higher imitates more closely.",
        json_schema_extra={"position": 5},
    )
    fit: FitConfig = Field(
        FitConfig(),
        title="Fit the student",
        description="How long and how fast the student learns.",
        json_schema_extra={"position": 6},
    )

    @property
    def teaching(self) -> Teaching:
        """How the teacher counts, in this stage and in those that fine-tune the student later."""
        return Teaching(
            temperature=self.temperature,
            mix=self.mix,
            hint="none" if self.method in ("none", "soft_targets") else self.method,
            teacher_layers=names(self.teacher_layer),
            student_layers=names(self.student_layer),
            weight=self.feature_weight,
        )

    @model_validator(mode="after")
    def _layers_for_hints(self) -> Self:
        teacher, student = names(self.teacher_layer), names(self.student_layer)
        if self.teaching.hint != "none" and not (teacher and student):
            raise ValueError(
                f"method: {self.method!r} needs teacher_layer and student_layer, such as 'block4_relu' of a zoo cnn"
            )
        if len(teacher) != len(student):
            raise ValueError(
                f"student_layer: {len(student)} layers, and teacher_layer names {len(teacher)}; each needs its partner"
            )
        return self


def names(text: str) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def distill(
    student: "tf.keras.Model",
    teacher: "tf.keras.Model",
    data: Dataset,
    config: DistillConfig,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> "tf.keras.Model":
    """Train a student in place under a teacher, which is left as it was; returns it with the weights of its best epoch.

    Args:
        student: its inputs and outputs in the order of the data's.
        teacher: likewise.
        data: what is learned.
        config: how; method `none` learns from the labels alone.
        seed: the same one gives the same weights.
        report: called after each epoch.
        checkpoints: a folder from which a killed training goes on.
        training: what it runs on.

    Raises:
        ModelError: a layer to imitate that is not there, or does not correspond.
        RecipeError: fewer devices than are asked for.
        SlimlineError: the loss is no number any more.

    """
    objective = supervised(label_loss(data))
    if config.method != "none":
        objective = taught_by(data, teacher, config.teaching, stage="distill")
    fit(student, data, config.fit, objective, seed=seed, report=report, checkpoints=checkpoints, training=training)
    return student


@stage("distill", pauses=True)
def distill_student(
    run: StageRun,
    student: ModelConfig,
    own: ModelArtifact | None,
    teacher: ModelArtifact,
    data: DataArtifact,
    config: DistillConfig,
    seed: int,
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> ModelArtifact:
    """Build the student, or take the person's `own`, have the teacher teach it, and keep it."""
    dataset = open_prepared(data)
    taught = keras.load(tracking.fetch(own)) if own else build_model(student, dataset, seed=seed, field="student")
    knowing = keras.load(tracking.fetch(teacher))
    taught = distill(
        taught,
        knowing,
        dataset,
        config,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
        training=training,
    )
    run.tell(trained_on(training))
    run.figure(plots.learning_curves(run.history), "learning_curves.png")
    return run.keep(lambda folder: keras.write(taught, folder), "keras", parent=teacher, metrics=run.best())
