"""A data set as stages hand it to each other: what it is, and from where it is read again."""

from pydantic import Field

from tasks.contract.artifact import Artifact
from tasks.data.config import DataConfig


class DataArtifact(Artifact, frozen=True):
    """A data set that was read, checked and split. What the store holds of it is its profile, not its examples."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="Of examples, labels, splits and class names.")
    input_shape: tuple[int, ...] = Field(description="One example's shape, without the batch axis.")
    output_shape: tuple[int, ...] = Field(description="One prediction's shape: (classes,), (targets,) or the input's.")
    classes: tuple[str, ...] = Field((), description="Class names in label order; empty unless classification.")
    counts: dict[str, int] = Field(description="Examples in train, validation and test.")
    duplicates: int = Field(
        0, ge=0, description="Examples left out of a split because their content stands in another."
    )
    config: DataConfig = Field(DataConfig(), description="How its examples are read, and seen by a training.")

    def fingerprint(self) -> dict[str, object]:
        """What a stage's cache key holds of the data: their content, and how a training sees them; never a path."""
        return {"content": self.digest, "profile": self.sha256, "treatment": self.config.treatment}
