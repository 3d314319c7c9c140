"""Weights that matter least become zero, a few at a time, while the teacher keeps teaching."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tasks import plots, tracking
from tasks.artifact import ModelArtifact
from tasks.data import DataConfig, Dataset, open_data
from tasks.fit import EpochReport, FitConfig, fit
from tasks.formats import keras
from tasks.objectives import Teaching, softened, supervised
from tasks.rebuild import Call, Copies, flat, kind, rebuild
from tasks.stage import StageRun, stage

if TYPE_CHECKING:
    import tensorflow as tf

# Layers whose kernels tfmot prunes. A depthwise kernel has few weights, each of which matters.
PRUNABLE = frozenset({"Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "SeparableConv1D", "SeparableConv2D"})
MATRICES = frozenset({"Dense"})  # tfmot takes blocks out of these only


class PruneConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How much of the student is removed, and how gently."""

    method: Literal["none", "magnitude", "n_m", "block"] = Field(
        "none",
        description="Not at all; the smallest weights of each kernel (Zhu and Gupta 2017); all but n of each m "
        "neighbours; whole blocks of Dense kernels.",
        json_schema_extra={"position": 0},
    )
    sparsity: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of each kernel's weights that become zero, for magnitude and block: higher gives files that "
        "compress better, and a less accurate model.",
        json_schema_extra={"position": 1},
    )
    schedule: Literal["polynomial", "constant"] = Field(
        "polynomial",
        description="Whether sparsity grows from zero to its share, fast at first, or is there at once.",
        json_schema_extra={"position": 2},
    )
    n: int = Field(
        2,
        ge=1,
        le=31,
        description="For n_m: how many of each m neighbouring weights are kept: more prunes less.",
        json_schema_extra={"position": 3},
    )
    m: int = Field(
        4,
        ge=2,
        le=32,
        description="For n_m: how many neighbouring weights are looked at together: more leave more choice.",
        json_schema_extra={"position": 4},
    )
    block_height: int = Field(
        1,
        ge=1,
        le=64,
        description="For block: rows of a block: higher removes weights that lie together, and more that matter.",
        json_schema_extra={"position": 5},
    )
    block_width: int = Field(
        4,
        ge=1,
        le=64,
        description="For block: columns of a block: higher removes weights that lie together, and more that matter.",
        json_schema_extra={"position": 6},
    )
    begin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the training after which pruning begins: higher leaves less time for it.",
        json_schema_extra={"position": 7},
    )
    end: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the training after which all zeros are in place: higher prunes more gently, and leaves "
        "less time to recover.",
        json_schema_extra={"position": 8},
    )
    frequency: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Steps between two looks at which weights are smallest: higher is faster and coarser.",
        json_schema_extra={"position": 9},
    )
    fit: FitConfig = Field(
        FitConfig(epochs=10, learning_rate=5e-4),
        description="How long and how fast the student recovers; with epochs 0 it is pruned at once and left so.",
        json_schema_extra={"position": 10},
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin: {self.begin:g} must lie before end ({self.end:g})")
        if self.method == "n_m" and self.n >= self.m:
            raise ValueError(f"n: {self.n} must be less than m ({self.m}), or nothing is pruned")
        return self


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
) -> "tf.keras.Model":
    """A plain Keras 2 model with zeros in its kernels, fine-tuned by tensorflow-model-optimization's schedule.

    Layers that tfmot cannot prune in the asked way stay whole. The best epoch is chosen among those that ended with all
    zeros in place.

    Args:
        student: left as it is.
        data: what is learned.
        config: how much, and how gently.
        teacher: keeps teaching during the fine-tuning; none learns from the labels.
        teaching: how the teacher counts.
        seed: the same one gives the same weights.
        report: told of each epoch.
        checkpoints: a folder from which a killed training goes on.

    Raises:
        ConversionError: the student is no graph of layers.
        SlimlineError: the loss is no number any more.

    """
    if config.method == "none":
        return student
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
        problem, variance = data.config.problem, data.variance
        objective = supervised(problem, variance) if teacher is None else softened(problem, variance, teacher, teaching)
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
    options: dict[str, Any] = {"sparsity_m_by_n": (config.m - config.n, config.m)} if config.method == "n_m" else {}
    if config.method == "block":
        options = {"block_size": (config.block_height, config.block_width)}
    if config.schedule == "polynomial" and config.method != "n_m":
        options["pruning_schedule"] = sparsity.PolynomialDecay(0.0, config.sparsity, begin, end, frequency=frequency)
    else:
        options["pruning_schedule"] = sparsity.ConstantSparsity(config.sparsity, begin, end, frequency)
    able = MATRICES if config.method == "block" else PRUNABLE
    copies = Copies()
    wrappers: dict[int, Any] = {}

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) not in able:
            return copies.call(layer, call.args, call.kwargs)
        if id(layer) in wrappers:
            return wrappers[id(layer)](*call.args, **call.kwargs)
        inner = type(layer).from_config(layer.get_config())
        wrappers[id(layer)] = sparsity.prune_low_magnitude(inner, **options)
        given = wrappers[id(layer)](*call.args, **call.kwargs)
        inner.set_weights(layer.get_weights())
        return given

    return rebuild(flat(model), answer)


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
    for weight in model.weights:
        layer, *_, attribute = weight.name.split("/")
        if "kernel" in attribute:
            kernels.setdefault(layer.removeprefix("quant_"), []).append(weight.numpy())
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
) -> ModelArtifact:
    """Prune the student under its teacher, and keep it with the sparsity that was measured, layer by layer."""
    pruned = prune(
        keras.load(tracking.fetch(student)),
        open_data(data),
        config,
        teacher=keras.load(tracking.fetch(teacher)),
        teaching=teaching,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
    )
    sparsity = sparsity_by_layer(pruned)
    run.figure(plots.learning_curves(run.history), "learning_curves.png")
    run.figure(plots.sparsity_by_layer(sparsity), "sparsity_by_layer.png")
    measured = {f"sparsity/{layer}": share for layer, share in sparsity.items()}
    return run.keep(lambda folder: keras.write(pruned, folder), "keras", parent=student, metrics=measured)
