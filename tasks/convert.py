"""Lower a Keras model to what a target runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from tasks.contract.artifact import FORMAT_OF, ModelArtifact, Precision, Target
from tasks.contract.errors import ConversionError
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.quantization.calibration import CalibrationConfig
from tasks.quantization.conversion import Conversion
from tasks.store import tracking
from tasks.store.stage import StageRun, stage

if TYPE_CHECKING:
    import tensorflow as tf


class ConvertConfig(BaseModel, frozen=True, extra="forbid", title="Convert"):
    """What files are like beside their numbers."""

    litert_io: Literal["float32", "int8"] = Field(
        "float32",
        title="LiteRT inputs and outputs",
        description="What an int8 file for litert takes and gives: raw values and probabilities, or their steps, for "
        "devices that have no floats.",
        json_schema_extra={"position": 0},
    )

    def options(self, target: Target) -> dict[str, Any]:
        """The options of the target's writer beside the precision."""
        return {"integer_io": self.litert_io == "int8"} if target == "litert" else {}


def convert(
    model: "tf.keras.Model",
    target: Target,
    precision: Precision,
    folder: Path,
    data: Dataset,
    config: ConvertConfig = ConvertConfig(),  # noqa: B008  frozen
    calibration: CalibrationConfig | None = None,
) -> None:
    """Put a model in a folder in the form that a target runs; class names travel with it, and what warms a server up.

    A fake-quantized model brings its ranges, and the same one gives the same bytes. A model without ranges is
    calibrated here, if `calibration` says how.

    Args:
        model: Keras 2, from `(batch, *data.input_shape)`; fake-quantized if precision is int8 and nothing calibrates.
        target: the runtime.
        precision: the numbers that it computes in.
        folder: an existing, empty one.
        data: what the model is for.
        config: what the file is like beside its numbers.
        calibration: for int8 of a model without ranges: how the target's own toolchain sets them.

    Raises:
        ConversionError: the target has no such precision, or no such operator; names which, and what to do.

    """
    form = FORMATS[target]
    if precision not in form.PRECISIONS:
        raise ConversionError(
            f"target {target} has no {precision}: choose another quantize.precision ({', '.join(form.PRECISIONS)}), or "
            f"leave {target} out of targets"
        )
    options = config.options(target)
    if calibration is not None and precision == "int8":
        examples, _ = data.sample("train", calibration.examples)
        form.calibrate(model, folder, examples, calibration, classes=data.classes, **options)
    else:
        form.write(model, folder, precision, classes=data.classes, **options)
    if hasattr(form, "warm_up"):
        form.warm_up(folder, data.sample("validation", 1)[0])


@stage("convert-{name}-{target}")
def convert_model(
    run: StageRun,
    name: str,  # noqa: ARG001  names the stage
    conversion: Conversion,
    target: Target,
    data: DataArtifact,
    config: ConvertConfig,
) -> ModelArtifact:
    """Write a Keras model for a target in the precision that it is to compute in, and keep the file.

    A target that has no such precision, or no toolchain that sets ranges of its own, gets float32 with a note: a
    SavedModel in float16 is no reason to stop.
    """
    form, precision, how = FORMATS[target], conversion.precision, conversion.calibration
    if precision not in form.PRECISIONS or (how is not None and not hasattr(form, "calibrate")):
        lacks = f"no {precision}" if how is None else "no toolchain of its own for int8"
        precision = "float32"
        listener().note(run.stage, f"{target} has {lacks}: written in {precision}")
    dataset, opened = open_prepared(data), keras.load(tracking.fetch(conversion.model))
    return run.keep(
        lambda folder: convert(opened, target, precision, folder, dataset, config, how),
        FORMAT_OF[target],
        precision=precision,
        parent=conversion.model,
    )
