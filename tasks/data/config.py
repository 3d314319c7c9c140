"""Which data are read, how they are split, and how a training sees them."""

from typing import Literal

from pydantic import BaseModel, Field, JsonValue

from tasks.contract.problem import Problem
from tasks.data.tables.config import TableConfig

ReaderName = Literal["digits", "keras", "sklearn", "npz", "parquet", "folder", "table", "function"]

# What decides how a model is trained, but not which examples there are.
TREATMENT = ("scaling", "flip", "shift", "brightness", "views", "memory_mib")


def at(position: int) -> dict[str, JsonValue]:
    """The field's place in a form; without it Prefect sorts by name."""
    return {"position": position}


class DataConfig(BaseModel, frozen=True, extra="forbid", title="Data"):
    """Which examples a compression learns from and is measured on."""

    reader: ReaderName = Field(
        default="digits",
        description="What reads the source: the handwritten digits of scikit-learn, one of its tables, a "
        "tf.keras.datasets name, an .npz file, Parquet with encoded images, a folder of images by class, a table (CSV, "
        "Parquet, ORC, JSON lines), or a Python function.",
        json_schema_extra=at(0),
    )
    source: str = Field(
        default="",
        description="A path, a name of scikit-learn or tf.keras.datasets, or package.module:function. The digits need "
        "none.",
        json_schema_extra=at(1),
    )
    test_source: str = Field(
        default="",
        description="A file or folder of its own for the test split, read like the source. Empty: the source's own "
        "split, or a share of it.",
        json_schema_extra=at(2),
    )
    problem: Problem = Field(
        default="classification",
        description="Classes, numbers, or the input itself: decides losses, metrics and what a target may be.",
        json_schema_extra=at(3),
    )
    input: str = Field(
        default="",
        description="Where the inputs are: a column (Parquet; 'image' when empty), a key (.npz; 'x' when empty), or "
        "the columns of a table separated by commas (when empty all but the target and what has no name).",
        json_schema_extra=at(4),
    )
    target: str = Field(
        default="",
        description="Where the labels are: a column ('label' when empty), a key (.npz; 'y' when empty), or several "
        "columns of a table separated by commas for a regression.",
        json_schema_extra=at(5),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names in label order. Empty: what the source says, else the sorted labels. "
        "Labels that leave out a number after 0 are read as they stand where they are named here.",
        json_schema_extra=at(6),
    )
    validation: float = Field(
        default=0.15,
        gt=0,
        le=0.45,
        description="Share kept for choosing the best epoch, unless the source has such a split. More makes that "
        "choice surer and leaves less to learn from.",
        json_schema_extra=at(7),
    )
    test: float = Field(
        default=0.15,
        gt=0,
        le=0.45,
        description="Share kept for the evidence, unless the source has such a split. More makes the intervals "
        "narrower and leaves less to learn from.",
        json_schema_extra=at(8),
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="Another number draws other examples into validation and test.",
        json_schema_extra=at(9),
    )
    limit: int = Field(
        default=0,
        ge=0,
        description="Use only the first so many examples of each part of the source; 0 uses all. More is slower and "
        "more accurate.",
        json_schema_extra=at(10),
    )
    image_size: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Resize encoded images to a square of so many pixels; 0 keeps their size. Larger shows a model "
        "more, and makes it slower.",
        json_schema_extra=at(11),
    )
    color: Literal["auto", "grey", "rgb"] = Field(
        default="auto",
        description="Channels of encoded images: one, three, or as the first image has them.",
        json_schema_extra=at(12),
    )
    scaling: Literal["auto", "none", "unit", "standardize"] = Field(
        default="auto",
        description="How the model's first layer treats raw values: to 0..1, to mean 0 and deviation 1, not at all, or "
        "(auto) 'unit' for bytes and 'standardize' for all else.",
        json_schema_extra=at(13),
    )
    flip: bool = Field(
        default=False,
        description="Mirror half of the training images left to right. Wrong where the sides matter, as in digits.",
        json_schema_extra=at(14),
    )
    shift: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Move training images by up to so many pixels each way. More makes a model surer off-centre, and "
        "slower to learn.",
        json_schema_extra=at(15),
    )
    brightness: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Brighten or darken training images by up to this share of the values' range. More makes a model "
        "surer in other light, and slower to learn.",
        json_schema_extra=at(16),
    )
    views: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How many changed versions there are of each training image, shown in turn, an epoch each; 0 "
        "changes them anew each epoch. A teacher answers each version once for all epochs and stages, and sees what "
        "the student sees (Beyer et al. 2022): fewer are faster and teach less.",
        json_schema_extra=at(17),
    )
    memory_mib: int = Field(
        default=512,
        ge=16,
        le=1 << 20,
        description="Decoded examples stay in memory up to so many MiB (twice as much for a moment); beyond it each "
        "epoch reads the source again. More is faster.",
        json_schema_extra=at(18),
    )
    table: TableConfig = Field(
        default=TableConfig(),
        title="Columns of a table",
        description="How a table's columns are read: gaps, categories, dates, encodings.",
        json_schema_extra=at(19),
    )

    @property
    def treatment(self) -> dict[str, object]:
        """What shapes a training besides the examples: its cache key holds this and the data's digest, never a path."""
        return self.model_dump(mode="json", include=set(TREATMENT))

    def fingerprint(self) -> dict[str, object]:
        """What a stage's cache key holds of the data: their content, and how a training sees them; never a path."""
        from tasks.data import content  # the readers need this module

        return {"content": content(self), "treatment": self.treatment}
