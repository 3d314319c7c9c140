"""A data set as stages hand it to each other: what it is, and from where it is read again."""

from pydantic import Field

from tasks.contract.artifact import Artifact
from tasks.data.config import DataConfig
from tasks.data.heads import Head


class DataArtifact(Artifact, frozen=True):
    """A data set that was read, checked and split. What the store holds of it is its profile, not its examples."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="Of examples, labels, splits and class names.")
    input_shapes: dict[str, tuple[int, ...]] = Field(
        description="One example's, without the batch axis, by the input's name; the only one has none."
    )
    heads: tuple[Head, ...] = Field(description="What is right for each output.")
    counts: dict[str, int] = Field(description="Examples in train, validation and test.")
    duplicates: int = Field(
        0, ge=0, description="Examples left out of a split because their content stands in another."
    )
    config: DataConfig = Field(DataConfig(), description="How its examples are read, and seen by a training.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order, of the one output; else none."""
        return self.heads[0].classes if len(self.heads) == 1 else ()

    def fingerprint(self) -> dict[str, object]:
        """What a stage's cache key holds of the data: their content, and how a training sees them; never a path."""
        return {"content": self.digest, "profile": self.sha256, "treatment": self.config.treatment}
