"""From floats to integers: which tensors are quantized, with which ranges, and how the model gets used to it."""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tasks.contract.artifact import ModelArtifact, Precision
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence import plots
from tasks.formats.keras import files as keras
from tasks.keras_graph.asked import asked
from tasks.measuring.scores import example_scores
from tasks.quantization.calibration import Calibration, CalibrationConfig, ToolchainCalibration
from tasks.quantization.conversion import Conversion
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.kernel_limits import settle
from tasks.quantization.mixed_precision import mixed
from tasks.quantization.nearest_ranges import nearest
from tasks.quantization.parameters import is_fake_quantized
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.training.loop import EpochReport, FitConfig, fit
from tasks.training.losses import Teaching, supervised
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import taught_by

if TYPE_CHECKING:
    import tensorflow as tf

TOOLCHAIN = get_args(ToolchainCalibration)
QuantizeMethod = Literal["none", "training", "post_training", "mixed", "auto"]


class QuantizeConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Quantize"):
    """How floats become integers."""

    method: QuantizeMethod = Field(
        "none",
        description="Not at all; by fine-tuning a model that already computes as if in integers (Jacob et al. 2018); "
        "by looking at examples only, which takes seconds and costs more accuracy; that with the most costly layers "
        "left in float; or all of them tried, and for each target the fastest taken that keeps the accuracy budget.",
        json_schema_extra={"position": 0},
    )
    precision: Literal["int8", "dynamic", "float16"] = Field(
        "int8",
        description="For post_training: int8 throughout; dynamic with int8 kernels and ranges measured anew for each "
        "input; float16 kernels at half the size. For training and mixed it is int8.",
        json_schema_extra={"position": 1},
    )
    calibration_examples: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Training examples, drawn, that set the ranges: more catch rarer values, and make steps coarser "
        "for it.",
        json_schema_extra={"position": 2},
    )
    calibration: Literal[Calibration, "measured"] = Field(
        "minmax",
        description="How ranges follow from what examples show: all of it; without the outermost values; so that the "
        "least information is lost (Migacz 2017); so that squared errors are least (Nagel et al. 2021); or by trying "
        "these, and bias_correction, and taking what changes answers to validation examples least.",
        json_schema_extra={"position": 3},
    )
    percentile: float = Field(
        99.99,
        ge=90,
        le=100,
        description="For calibration percentile: how many percent of the values stay inside; fewer make finer steps, "
        "and cut more off.",
        json_schema_extra={"position": 4},
    )
    ranges: Literal["shared", "own"] = Field(
        "shared",
        description="For post_training to int8: one set of ranges for every target; or each target's own toolchain "
        "sets them (ONNX Runtime's quantize_static, the TFLite converter, which knows minmax only).",
        json_schema_extra={"position": 6},
    )
    bias_correction: bool = Field(
        False,
        description="For post_training: biases take back by how much rounding moved each channel's mean "
        "(Nagel et al. 2019).",
        json_schema_extra={"position": 7},
    )
    tolerance: float = Field(
        0.005,
        ge=0,
        le=1,
        description="For mixed: how much lower than the float model's the validation score may be; layers go back to "
        "float until it is not. Higher leaves more in integers.",
        json_schema_extra={"position": 8},
    )
    preserve_sparsity: bool = Field(
        True,
        description="For training: keep weights that pruning made zero at zero.",
        json_schema_extra={"position": 9},
    )
    fit: FitConfig = Field(
        FitConfig(epochs=5, learning_rate=1e-4),
        title="Fit to integers",
        description="For training: how long and how fast the model gets used to integers.",
        json_schema_extra={"position": 10},
    )

    @model_validator(mode="after")
    def _toolchains_know_it(self) -> Self:
        if self.method == "post_training" and self.ranges == "own" and self.calibration not in TOOLCHAIN:
            raise ValueError(
                f"calibration: {self.calibration!r} is none that toolchains know: with ranges 'own', write "
                f"{', '.join(TOOLCHAIN)}; or write ranges: shared"
            )
        return self

    @property
    def result(self) -> Precision:
        """What the files made of the result are to be computed in."""
        if self.method == "none":
            return "float32"
        return self.precision if self.method == "post_training" else "int8"

    @property
    def fake_quantizes(self) -> bool:
        """Whether what comes out brings the ranges that integer files take, and is what those files compute."""
        return self.result == "int8" and self.route != "toolchain"

    @property
    def own_ranges(self) -> CalibrationConfig | None:
        """How each target's own toolchain sets the ranges, where it is to do so."""
        if self.route != "toolchain":
            return None
        method = self.calibration if self.calibration in TOOLCHAIN else "minmax"
        return CalibrationConfig.model_validate(
            {"examples": self.calibration_examples, "method": method, "percentile": self.percentile}
        )

    @property
    def route(self) -> str:
        """One word for the way that this config goes: `static` is int8 after training, `toolchain` with own ranges."""
        if self.method == "post_training" and self.precision == "int8" and self.ranges == "own":
            return "toolchain"
        if self.method == "post_training":
            return {"int8": "static"}.get(self.precision, self.precision)
        return self.method

    def routes(self) -> dict[str, "QuantizeConfig"]:
        """The configs to try, by their route: this one; none for the method `none`; for `auto` all of `ROUTES`."""
        if self.method == "none":
            return {}
        settings = ROUTES if self.method == "auto" else ({},)
        configs = [self.model_copy(update=dict(changes)) for changes in settings]
        return {config.route: config for config in configs}


# What `auto` tries beside the float model.
ROUTES: tuple[dict[str, str], ...] = (
    {"method": "post_training", "precision": "float16"},
    {"method": "post_training", "precision": "dynamic"},
    {"method": "post_training", "precision": "int8", "ranges": "shared"},
    {"method": "post_training", "precision": "int8", "ranges": "own"},
    {"method": "mixed", "precision": "int8"},
    {"method": "training", "precision": "int8"},
)


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
    `training`, the model is fine-tuned with gradients passed straight through the rounding, while the ranges follow it;
    for `mixed`, the layers that cost most stay in float. A model in which nothing has an integer kernel stays in float.

    Args:
        student: left as it is.
        data: what calibrates (train), what decides which layers stay in float (validation), and what is learned.
        config: how; one of `routes()`. For post-training in float16 or dynamic range, or with each toolchain's own
            ranges, there is nothing to do before the files are written, and the student comes back.
        teacher: keeps teaching during the fine-tuning; none learns from the labels.
        teaching: how the teacher counts; hints from layers that the student no longer has are left out, with a note.
        seed: the same one gives the same weights.
        report: called after each epoch.
        checkpoints: a folder from which a killed training goes on.

    Raises:
        ConversionError: the student is no graph of layers.
        SlimlineError: the loss is no number any more.

    """
    if not config.fake_quantizes:
        return student
    examples, _ = data.sample("train", config.calibration_examples)
    make = functools.partial(
        fake_quantized,
        student,
        examples,
        keep_zeros=config.preserve_sparsity,
        percentile=config.percentile,
    )
    ranges: dict[str, Any] = {"calibration": config.calibration}
    quantized = None
    if config.calibration == "measured":
        x, _ = data.sample("validation", config.calibration_examples)
        _, ranges, quantized = nearest(make, lambda model: asked(model, x), asked(student, x))
    elif config.method == "post_training":
        ranges["bias_correction"] = config.bias_correction
    if config.method == "mixed":
        return _mixed(student, data, config, lambda names: make(float_layers=names, **ranges))
    if quantized is None:
        quantized = make(**ranges)
    if config.method == "post_training":
        return quantized
    if not is_fake_quantized(quantized):  # nothing to get used to
        return student
    objective = supervised(label_loss(data))
    if teacher is not None:
        objective = taught_by(data, teacher, teaching, stage=f"quantize-{config.route}", layers_may_go=True)
    fit(quantized, data, config.fit, objective, seed=seed, report=report, checkpoints=checkpoints)
    settle(quantized)  # training moved biases, and the ranges and steps that they are counted in
    return quantized


def _mixed(
    student: "tf.keras.Model",
    data: Dataset,
    config: QuantizeConfig,
    make: Callable[[Collection[str]], "tf.keras.Model"],
) -> "tf.keras.Model":
    """As many layers in integers as the validation split's score allows."""
    x, y = data.sample("validation", config.calibration_examples)

    def score(outputs: np.ndarray) -> np.ndarray:
        each = [example_scores(head.problem, head.of(y), head.of(outputs), head.variance) for head in data.heads]
        return np.concatenate([np.atleast_1d(scores.mean(axis=0)) for scores in each])

    def drop(outputs: np.ndarray) -> float:
        return float((score(expected) - score(outputs)).max())  # of several outputs and targets the worst one's

    expected = asked(student, x)
    return mixed(make, lambda model: asked(model, x), drop, expected, config.tolerance)


@stage("quantize-{config.route}", pauses=True)
def quantize_student(
    run: StageRun,
    student: ModelArtifact,
    teacher: ModelArtifact,
    data: DataArtifact,
    config: QuantizeConfig,
    teaching: Teaching,
    seed: int,
) -> ModelArtifact:
    """Quantize the student under its teacher, and keep the fake-quantized model that every int8 file is made from.

    A student in which nothing has an integer kernel comes back as it is, with a note.
    """
    quantized = quantize(
        keras.load(tracking.fetch(student)),
        open_prepared(data),
        config,
        teacher=keras.load(tracking.fetch(teacher)),
        teaching=teaching,
        seed=seed,
        report=run.epoch,
        checkpoints=run.checkpoints,
    )
    if not is_fake_quantized(quantized):
        listener().note(run.stage, "no layer of this model has an integer kernel: it stays in float")
        return student
    if run.history:
        run.figure(plots.learning_curves(run.history), "learning_curves.png")
    return run.keep(
        lambda folder: keras.write(quantized, folder), "keras", precision="int8", parent=student, metrics=run.best()
    )


def conversion(
    student: ModelArtifact,
    teacher: ModelArtifact,
    data: DataArtifact,
    config: QuantizeConfig,
    teaching: Teaching,
    seed: int,
) -> Conversion:
    """What files are made of: a fake-quantized model, or the student itself where the files' writers do the rest."""
    if not config.fake_quantizes:
        return Conversion(model=student, precision=config.result, calibration=config.own_ranges)
    model = quantize_student(student, teacher, data, config, teaching, seed)
    return Conversion(model=model, precision=model.precision)
