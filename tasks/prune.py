"""What matters least is removed, channels or single weights, while the teacher keeps teaching."""

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tasks import plots, tracking
from tasks.artifact import ModelArtifact
from tasks.channels.config import ChannelConfig, Goal
from tasks.channels.graph import graph_of
from tasks.channels.shrink import shrink, widths
from tasks.data import DataConfig, Dataset, open_data
from tasks.fit import EpochReport, FitConfig, derived, fit
from tasks.formats import keras
from tasks.objectives import Objective, Teaching, supervised
from tasks.progress import listener
from tasks.rebuild import Call, Copies, flat, free_names, kind, rebuild
from tasks.stage import StageRun, stage
from tasks.taught import taught_by

if TYPE_CHECKING:
    import tensorflow as tf

# Layers whose kernels tfmot prunes. A depthwise kernel has few weights, each of which matters.
PRUNABLE = frozenset({"Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "SeparableConv1D", "SeparableConv2D"})
MATRICES = frozenset({"Dense"})  # tfmot takes blocks out of these only


class PruneConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How much of the student is removed, and how gently."""

    method: Literal["none", "channels", "magnitude", "n_m", "block"] = Field(
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
        description="How long and how fast the student recovers; with epochs 0 it is pruned at once and left so.",
        json_schema_extra={"position": 12},
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin: {self.begin:g} must lie before end ({self.end:g})")
        if self.zeros == "n_m" and self.n >= self.m:
            raise ValueError(f"n: {self.n} must be less than m ({self.m}), or nothing is pruned")
        if self.then != "none" and self.method != "channels":
            raise ValueError(f"then: {self.then!r} follows method 'channels'; the method is {self.method!r}")
        return self

    @property
    def zeros(self) -> Literal["none", "magnitude", "n_m", "block"]:
        """How zeros are made, if any."""
        return self.then if self.method == "channels" else self.method


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
) -> "tf.keras.Model":
    """A plain Keras 2 model with fewer channels, with zeros in its kernels, or both, fine-tuned.

    Args:
        student: left as it is.
        data: what is learned.
        config: how much, and how gently.
        teacher: keeps teaching during the fine-tuning; none learns from the labels.
        teaching: how the teacher counts.
        seed: the same one gives the same weights.
        report: told of each epoch.
        checkpoints: a folder from which a killed training goes on.
        goal: what the shipped file is to be, for channels that are cut to the budget or to a latency.

    Raises:
        ConversionError: the student is no graph of layers.
        PruningFailed: channels cannot be removed to what is asked for.
        SlimlineError: the loss is no number any more.

    """
    if config.method == "none":
        return student
    objective = supervised(data.config.problem, data.variance)
    if teacher is not None:
        objective = taught_by(data, teacher, teaching, stage="prune", layers_may_go=True)
    if config.method != "channels":
        return _sparse(student, data, config, objective, seed=seed, report=report, checkpoints=checkpoints)
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
        )

    def told(epoch: int, _: int, values: dict[str, float]) -> None:
        report(between + epoch, epochs, values)

    smaller = shrink(student, data, config.channels, goal, teacher, recover)
    if config.zeros == "none" and widths(smaller) == widths(student):
        return smaller  # as small as is asked for already
    folder = _below(checkpoints, "last")
    if config.zeros != "none":
        return _sparse(smaller, data, config, objective, seed=seed, report=told, checkpoints=folder)
    fit(smaller, data, config.fit, objective, seed=seed, report=told, checkpoints=folder)
    return smaller


def _below(folder: Path | None, name: str) -> Path | None:
    """A folder of its own for each training in a stage."""
    if folder is None:
        return None
    (folder / name).mkdir(exist_ok=True)
    return folder / name


def _sparse(
    student: "tf.keras.Model",
    data: Dataset,
    config: PruneConfig,
    objective: Objective,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None,
) -> "tf.keras.Model":
    """The model with zeros in its kernels, fine-tuned by tensorflow-model-optimization's schedule.

    Layers that tfmot cannot prune in the asked way stay whole. The best epoch is chosen among those that ended with all
    zeros in place.
    """
    steps = math.ceil(data.counts["train"] / config.fit.batch_size)
    begin, end = _span(config, steps)
    wrapped = _wrapped(student, config, begin, end)
    wrappers = [layer for layer in wrapped.layers if kind(layer) == "PruneLowMagnitude"]

    def in_place(_epoch: int = 0) -> None:
        # a step ends with the optimizer's update, which moves pruned weights too
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()

    for wrapper in wrappers:
        wrapper.pruning_step.assign(0)  # each training step adds one
    if config.fit.epochs:
        fit(
            wrapped,
            data,
            config.fit,
            objective,
            seed=seed,
            report=report,
            checkpoints=checkpoints,
            on_epoch_end=in_place,
            best_from=max(1, math.ceil(end / steps)),
        )
    else:
        for wrapper in wrappers:
            wrapper.pruning_step.assign(end)
            wrapper.pruning_obj.conditional_mask_update()
        in_place()
    return _stripped(wrapped)


def _span(config: PruneConfig, steps: int) -> tuple[int, int]:
    """The first and last step of pruning; weights are looked at in the last one too."""
    total = config.fit.epochs * steps
    begin, end = math.floor(config.begin * total), math.floor(config.end * total)
    return begin, max(begin + (end - begin) // config.frequency * config.frequency, begin + 1)


def _wrapped(model: "tf.keras.Model", config: PruneConfig, begin: int, end: int) -> "tf.keras.Model":
    """The model with tfmot's wrappers around what can be pruned in the asked way."""
    from tensorflow_model_optimization.sparsity import keras as sparsity

    frequency = min(config.frequency, end - begin)
    # 2:4 keeps two of four; tfmot counts the zeros
    options: dict[str, Any] = {"sparsity_m_by_n": (config.m - config.n, config.m)} if config.zeros == "n_m" else {}
    if config.zeros == "block":
        options = {"block_size": (config.block_height, config.block_width)}
    if config.schedule == "polynomial" and config.zeros != "n_m":
        options["pruning_schedule"] = sparsity.PolynomialDecay(0.0, config.sparsity, begin, end, frequency=frequency)
    else:
        options["pruning_schedule"] = sparsity.ConstantSparsity(config.sparsity, begin, end, frequency)
    able = MATRICES if config.zeros == "block" else PRUNABLE
    model, copies = flat(model), Copies()
    free = free_names(layer.name for layer in model.layers)
    wrappers: dict[int, Any] = {}

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) not in able:
            return copies.call(layer, call.args, call.kwargs)
        if id(layer) in wrappers:
            return wrappers[id(layer)](*call.args, **call.kwargs)
        inner = type(layer).from_config(layer.get_config())
        wrappers[id(layer)] = _wrapper()(inner, free(f"prune_low_magnitude_{layer.name}"), **options)
        given = wrappers[id(layer)](*call.args, **call.kwargs)
        inner.set_weights(layer.get_weights())
        return given

    return rebuild(model, answer)


@cache
def _wrapper() -> Any:
    """The class of what is put around a layer to prune it: tfmot's, which hands on the mask that the layer would."""
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    class PruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):  # type: ignore[misc]
        def __init__(self, layer: Any, name: str, **options: Any) -> None:
            super().__init__(layer, **options)
            self._name = name  # tfmot's own may be another layer's

        def call(self, inputs: Any, training: Any = None) -> Any:  # no layer with a kernel reads a mask
            return super().call(inputs, training=training)

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask) if self.layer.supports_masking else None

    return PruneLowMagnitude


def _stripped(model: "tf.keras.Model") -> "tf.keras.Model":
    """The model without wrappers, masks and counters."""
    copies = Copies()

    def answer(call: Call) -> Any:
        layer = call.layer.layer if kind(call.layer) == "PruneLowMagnitude" else call.layer
        return copies.call(layer, call.args, call.kwargs)

    return rebuild(model, answer)


def sparsity_by_layer(model: "tf.keras.Model") -> dict[str, float]:
    """The share of zeros in each layer's kernels, by the layer's name, for all layers that have kernels."""
    kernels: dict[str, list[np.ndarray]] = {}
    for layer in model.layers:
        name = layer.layer.name if kind(layer) == "QuantizeWrapperV2" else layer.name
        for weight in layer.weights:
            if "kernel" in weight.name.split("/")[-1] and weight.shape.rank > 1:  # not a range of `my_kernel`
                kernels.setdefault(name, []).append(weight.numpy())
    return {
        layer: sum(int(np.count_nonzero(kernel == 0)) for kernel in found) / sum(kernel.size for kernel in found)
        for layer, found in kernels.items()
    }


@stage("prune")
def prune_student(
    run: StageRun,
    student: ModelArtifact,
    teacher: ModelArtifact,
    data: DataConfig,
    config: PruneConfig,
    teaching: Teaching,
    seed: int,
    goal: Goal,
) -> ModelArtifact:
    """Prune the student under its teacher, and keep it with what was measured of it, layer by layer."""
    whole = keras.load(tracking.fetch(student))
    pruned = prune(
        whole,
        open_data(data),
        config,
        teacher=keras.load(tracking.fetch(teacher)),
        teaching=teaching,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
        goal=goal,
    )
    measured: dict[str, float] = {}
    if run.history:
        run.figure(plots.learning_curves(run.history), "learning_curves.png")
    if config.method == "channels":
        before, after = widths(whole), widths(pruned)
        run.figure(plots.channels_by_layer(before, after), "channels_by_layer.png")
        measured |= {f"channels/{layer}": float(count) for layer, count in after.items()}
        for layer, why in graph_of(whole).kept_whole.items():
            listener().note(run.stage, f"{layer} and what it is joined with keep their channels ({why})")
    if config.zeros != "none":
        sparsity = sparsity_by_layer(pruned)
        run.figure(plots.sparsity_by_layer(sparsity), "sparsity_by_layer.png")
        measured |= {f"sparsity/{layer}": share for layer, share in sparsity.items()}
    return run.keep(lambda folder: keras.write(pruned, folder), "keras", parent=student, metrics=measured)
