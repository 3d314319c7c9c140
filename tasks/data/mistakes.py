"""What a mistake costs while a model learns: classes that are rare, labels that are unsure, answers that are sure."""

from pydantic import BaseModel, Field


class MistakesConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Mistakes"):
    """What a wrong class or label costs in training; what is measured stays as it is."""

    balanced: bool = Field(
        default=False,
        description="Whether all classes count alike, however rare; of labels that may stand together, whether each "
        "counts alike where it is and where it is not. A rare class is found more often, and others less.",
        json_schema_extra={"position": 0},
    )
    weights: tuple[float, ...] = Field(
        default=(),
        description="What a mistake of each class or label costs, in their order; only the ratios count. Empty: alike.",
        json_schema_extra={"position": 1},
    )
    smoothing: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of each label that is spread over all classes (Szegedy et al. 2016). More makes answers "
        "less sure, and helps where labels are not.",
        json_schema_extra={"position": 2},
    )
    focal: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="The exponent of the focal loss (Lin et al. 2017): more leaves what is answered well to itself, so "
        "that rare and hard examples count. 2 is usual; 0 is cross-entropy.",
        json_schema_extra={"position": 3},
    )

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return self != MistakesConfig()
