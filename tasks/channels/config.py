"""How much channel pruning removes, and by what."""

from typing import Literal

from pydantic import BaseModel, Field

from tasks.channels.importance import Criterion
from tasks.contract.artifact import Precision, Target
from tasks.training.loop import FitConfig


class ChannelConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Channels"):
    """How many channels are removed, and which."""

    of: Literal["budget", "channels", "macs", "latency"] = Field(
        "budget",
        description="What is made less: as little as the budget's size and speed limits ask for, both measured; or a "
        "share of the channels, of the multiply-accumulates, or of the first target's measured latency. Where time is "
        "measured, another run may remove a few channels more or less.",
        json_schema_extra={"position": 0},
    )
    remove: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="The share that is removed of channels, macs or latency: higher gives a smaller, faster and less "
        "accurate model; 0 removes nothing.",
        json_schema_extra={"position": 1},
    )
    criterion: Criterion = Field(
        "taylor",
        description="What makes a channel matter: taylor, by how much the loss would change without it (Molchanov "
        "2019); l1 or l2, by its filter's norm (Li 2017); norm_scale, by its batch normalisation's scale (Liu 2017).",
        json_schema_extra={"position": 2},
    )
    spread: Literal["criterion", "sensitivity"] = Field(
        "criterion",
        description="How the cut is spread over layers: criterion compares channels of all layers by it; sensitivity "
        "takes as many from each layer as move the model's answers equally far, which is measured.",
        json_schema_extra={"position": 3},
    )
    examples: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Training examples, drawn, that taylor and sensitivity look at: more make the order steadier, and "
        "take longer.",
        json_schema_extra={"position": 4},
    )
    floor: float = Field(
        0.125,
        ge=0,
        le=1,
        description="Share of each layer's channels that stays in any case: higher spreads the removal more evenly.",
        json_schema_extra={"position": 5},
    )
    multiple: int = Field(
        4,
        ge=1,
        le=256,
        description="Layers keep a multiple of so many channels, or all: 4 suits ONNX Runtime's integer kernels, 16 "
        "its float ones; higher leaves less choice. Layers of no more channels than this stay whole.",
        json_schema_extra={"position": 6},
    )
    steps: int = Field(
        1,
        ge=1,
        le=100,
        description="How often channels are looked at and removed, with training between: more remove more gently.",
        json_schema_extra={"position": 7},
    )
    fit: FitConfig = Field(
        FitConfig(epochs=2, learning_rate=5e-4),
        title="Fit between two cuts",
        description="How the model recovers between two steps; after the last one prune.fit counts.",
        json_schema_extra={"position": 8},
    )


class Goal(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What the shipped file has to be; 0 is no limit. From the recipe's budget, first target and quantization."""

    target: Target = "onnxruntime"
    precisions: tuple[Precision, ...] = Field(
        ("int8",), min_length=1, description="The numbers that the shipped file may compute in; one has to keep all."
    )
    threads: int = 1
    max_size_bytes: int = 0
    min_size_ratio: float = 0
    max_latency_ms: float = 0
    min_speedup: float = 0
    confidence: float = Field(0.95, description="Of the interval whose bad end has to keep `min_speedup`.")

    @property
    def limits(self) -> bool:
        """Whether there is any."""
        return bool(self.max_size_bytes or self.min_size_ratio or self.max_latency_ms or self.min_speedup)
