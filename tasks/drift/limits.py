"""What a version on new data must keep: how far data may move, and how much of the score may be lost."""

from typing import Literal

from pydantic import BaseModel, Field


class MonitorConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Limits"):
    """How new data are measured, and what is too far from what was registered."""

    max_decay: float = Field(
        0.03,
        ge=0,
        description="How much worse than registered the metric may be, in its own unit. Beyond it, and when the "
        "interval excludes chance, the version is degraded. More lets it decay further.",
        json_schema_extra={"position": 0},
    )
    max_drift: float = Field(
        0.25,
        gt=0,
        description="Population stability index beyond which an input, a label or an answer has drifted: 0.1 is a "
        "slight shift, 0.25 a large one. More lets data move further.",
        json_schema_extra={"position": 1},
    )
    significance: float = Field(
        0.01,
        gt=0,
        le=0.2,
        description="Chance, over all figures together, to see drift where there is none. More sees drift sooner, and "
        "cries wolf more often.",
        json_schema_extra={"position": 2},
    )
    max_slowdown: float = Field(
        2.0,
        ge=1,
        description="How many times the registered median latency a call may take, on the same processor. More lets it "
        "be slower.",
        json_schema_extra={"position": 3},
    )
    min_examples: int = Field(
        100,
        ge=20,
        description="Fewest new examples to judge by. More waits for more.",
        json_schema_extra={"position": 4},
    )
    max_examples: int = Field(
        5000,
        ge=20,
        le=1_000_000,
        description="Of more new examples so many are measured. More sees smaller changes and takes longer.",
        json_schema_extra={"position": 5},
    )
    which: Literal["drawn", "newest"] = Field(
        "drawn",
        description="Of more new examples, which ones: drawn from all, or the last ones, which are the newest where a "
        "file is added to at its end.",
        json_schema_extra={"position": 8},
    )
    latency_rounds: int = Field(
        200,
        ge=5,
        le=100_000,
        description="How often a call is timed. More steadies the median.",
        json_schema_extra={"position": 6},
    )
    again_on: Literal["recipe", "new"] = Field(
        "recipe",
        description="What is compressed again when the version is degraded: the recipe's own source as it is by then, "
        "or the new data, which then need labels.",
        json_schema_extra={"position": 7},
    )
