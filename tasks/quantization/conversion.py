"""What files are made of: a Keras model, and the numbers that they are to compute in."""

from pydantic import BaseModel, Field

from tasks.contract.artifact import ModelArtifact, Precision
from tasks.quantization.calibration import CalibrationConfig


class Conversion(BaseModel, frozen=True, extra="forbid"):
    """An order to write a Keras model for targets."""

    model: ModelArtifact
    precision: Precision = Field("float32", description="The numbers that files of it are to compute in.")
    calibration: CalibrationConfig | None = Field(
        None, description="For int8 of a model without ranges: how each target's own toolchain sets them."
    )
