"""What matters least is removed, channels or single weights, while the teacher keeps teaching."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from tasks.channels.config import ChannelConfig, Goal
from tasks.channels.graph import graph_of
from tasks.channels.shrink import shrink, widths
from tasks.contract.artifact import ModelArtifact
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence import plots
from tasks.formats.keras import files as keras
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.training.devices import TrainingConfig, trained_on
from tasks.training.loop import EpochReport, FitConfig, derived, fit
from tasks.training.losses import Teaching, supervised
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import taught_by
from tasks.training.weight_sparsity import Zeros, sparse, sparsity_by_layer

if TYPE_CHECKING:
    import tensorflow as tf

PruneMethod = Literal["none", "channels", "magnitude", "n_m", "block"]


class PruneConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Prune"):
    """How much of the student is removed, and how gently."""

    method: PruneMethod = Field(
        "none",
        description="Not at all; whole channels, which makes every file smaller and faster; or zeros, which only make "
        "files compress better: the smallest weights of each kernel (Zhu and Gupta 2017), all but n of each m "
        "neighbours, or whole blocks of Dense kernels.",
        json_schema_extra={"position": 0},
    )
    channels: ChannelConfig = Field(
        ChannelConfig(), description="For channels: how many are removed, and which.", json_schema_extra={"position": 1}
    )
    then: Literal["none", "magnitude", "n_m", "block"] = Field(
        "none",
        description="For channels: how zeros are made in the kernels of the smaller model.",
        json_schema_extra={"position": 2},
    )
    sparsity: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of each kernel's weights that become zero, for magnitude and block: higher gives files that "
        "compress better, and a less accurate model.",
        json_schema_extra={"position": 3},
    )
    schedule: Literal["polynomial", "constant"] = Field(
        "polynomial",
        description="Whether sparsity grows from zero to its share, fast at first, or is there at once.",
        json_schema_extra={"position": 4},
    )
    n: int = Field(
        2,
        ge=1,
        le=31,
        description="For n_m: how many of each m neighbouring weights are kept: more prunes less.",
        json_schema_extra={"position": 5},
    )
    m: int = Field(
        4,
        ge=2,
        le=32,
        description="For n_m: how many neighbouring weights are looked at together: more leave more choice.",
        json_schema_extra={"position": 6},
    )
    block_height: int = Field(
        1,
        ge=1,
        le=64,
        description="For block: rows of a block: higher removes weights that lie together, and more that matter.",
        json_schema_extra={"position": 7},
    )
    block_width: int = Field(
        4,
        ge=1,
        le=64,
        description="For block: columns of a block: higher removes weights that lie together, and more that matter.",
        json_schema_extra={"position": 8},
    )
    begin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the training after which pruning begins: higher leaves less time for it.",
        json_schema_extra={"position": 9},
    )
    end: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the training after which all zeros are in place: higher prunes more gently, and leaves "
        "less time to recover.",
        json_schema_extra={"position": 10},
    )
    frequency: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Steps between two looks at which weights are smallest: higher is faster and coarser.",
        json_schema_extra={"position": 11},
    )
    fit: FitConfig = Field(
        FitConfig(epochs=10, learning_rate=5e-4),
        title="Fit what was pruned",
        description="How long and how fast the student recovers; with epochs 0 it is pruned at once and left so.",
        json_schema_extra={"position": 12},
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin: {self.begin:g} must lie before end ({self.end:g})")
        if self.zeros is not None and self.zeros.pattern == "n_m" and self.n >= self.m:
            raise ValueError(f"n: {self.n} must be less than m ({self.m}), or nothing is pruned")
        if self.then != "none" and self.method != "channels":
            raise ValueError(f"then: {self.then!r} follows method 'channels'; the method is {self.method!r}")
        return self

    @property
    def zeros(self) -> Zeros | None:
        """How zeros are made, if any."""
        pattern = self.then if self.method == "channels" else self.method
        if pattern == "none":
            return None
        return Zeros(
            pattern=pattern,
            sparsity=self.sparsity,
            schedule=self.schedule,
            n=self.n,
            m=self.m,
            block=(self.block_height, self.block_width),
            begin=self.begin,
            end=self.end,
            frequency=self.frequency,
        )


def prune(
    student: "tf.keras.Model",
    data: Dataset,
    config: PruneConfig,
    *,
    teacher: "tf.keras.Model | None",
    teaching: Teaching,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
    goal: Goal = Goal(),  # noqa: B008  frozen
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> "tf.keras.Model":
    """A plain Keras 2 model with fewer channels, with zeros in its kernels, or both, fine-tuned.

    With the method `none` the student itself comes back.

    Args:
        student: left as it is.
        data: what is learned.
        config: how much, and how gently.
        teacher: keeps teaching during the fine-tuning; none learns from the labels.
        teaching: how the teacher counts.
        seed: the same one gives the same weights.
        report: called after each epoch.
        checkpoints: a folder from which a killed training goes on.
        goal: what the shipped file is to be, for channels that are cut to the budget or to a latency.
        training: what a model that lost channels is trained on; with zeros to be made it stays on the processor.

    Raises:
        ConversionError: the student is no graph of layers.
        PruningFailed: channels cannot be removed to what is asked for.
        RecipeError: fewer devices than are asked for.
        SlimlineError: the loss is no number any more.

    """
    if config.method == "none":
        return student
    objective = supervised(label_loss(data))
    if teacher is not None:
        objective = taught_by(data, teacher, teaching, stage="prune", layers_may_go=True)
    zeros = config.zeros
    if config.method != "channels":
        assert zeros is not None
        return sparse(student, data, zeros, config.fit, objective, seed=seed, report=report, checkpoints=checkpoints)
    between = config.channels.fit.epochs * (config.channels.steps - 1)
    epochs = between + config.fit.epochs

    def recover(model: "tf.keras.Model", step: int) -> None:
        before = config.channels.fit.epochs * (step - 1)
        folder = _below(checkpoints, f"step{step}")
        fit(
            model,
            data,
            config.channels.fit,
            objective,
            seed=derived(seed, step) % 2**31,  # as much as NumPy takes
            report=lambda epoch, _, values: report(before + epoch, epochs, values),
            checkpoints=folder,
            training=training,
        )

    def report_last(epoch: int, _: int, values: dict[str, float]) -> None:
        report(between + epoch, epochs, values)

    smaller = shrink(student, data, config.channels, goal, teacher, recover, checkpoints)
    if zeros is None and widths(smaller) == widths(student):
        return smaller  # as small as is asked for already
    folder = _below(checkpoints, "last")
    if zeros is not None:
        return sparse(smaller, data, zeros, config.fit, objective, seed=seed, report=report_last, checkpoints=folder)
    fit(
        smaller,
        data,
        config.fit,
        objective,
        seed=seed,
        report=report_last,
        checkpoints=folder,
        training=training,
    )
    return smaller


def _below(folder: Path | None, name: str) -> Path | None:
    """A folder of its own for each training in a stage."""
    return folder / name if folder is not None else None


def _times(arguments: Mapping[str, Any]) -> bool:
    """Whether files are timed to know how much goes."""
    config: PruneConfig = arguments["config"]
    goal: Goal = arguments["goal"]
    by = config.channels.of if config.method == "channels" else ""
    return by == "latency" or (by == "budget" and bool(goal.max_latency_ms or goal.min_speedup))


@stage("prune", measures=_times, pauses=True)
def prune_student(
    run: StageRun,
    student: ModelArtifact,
    teacher: ModelArtifact,
    data: DataArtifact,
    config: PruneConfig,
    teaching: Teaching,
    seed: int,
    goal: Goal,
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> ModelArtifact:
    """Prune the student under its teacher, and keep it with what was measured of it, layer by layer."""
    whole = keras.load(tracking.fetch(student))
    pruned = prune(
        whole,
        open_prepared(data),
        config,
        teacher=keras.load(tracking.fetch(teacher)),
        teaching=teaching,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
        goal=goal,
        training=training,
    )
    measured: dict[str, float] = {}
    if run.history:
        run.figure(plots.learning_curves(run.history), "learning_curves.png")
    if config.method == "channels":
        if config.zeros is None or config.channels.steps > 1:
            run.tell(trained_on(training))
        before, after = widths(whole), widths(pruned)
        run.figure(plots.channels_by_layer(before, after), "channels_by_layer.png")
        measured |= {f"channels/{layer}": float(count) for layer, count in after.items()}
        for layer, why in graph_of(whole).kept_whole.items():
            listener().note(run.stage, f"{layer} and what it is joined with keep their channels ({why})")
    if config.zeros is not None:
        sparsity = sparsity_by_layer(pruned)
        run.figure(plots.sparsity_by_layer(sparsity), "sparsity_by_layer.png")
        measured |= {f"sparsity/{layer}": share for layer, share in sparsity.items()}
    return run.keep(lambda folder: keras.write(pruned, folder), "keras", parent=student, metrics=measured)
