"""The budget: the limits that a version must keep to be registered."""

from typing import Any

from pydantic import BaseModel, Field


def _limit(default: float, position: int, description: str, **bounds: Any) -> Any:
    """A limit of 0 or more, with its place in the form."""
    return Field(default=default, ge=0, description=description, json_schema_extra={"position": position}, **bounds)


class Budget(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The limits that a version must keep to be registered.

    Accuracy, by the bad end of its interval, and the same integers on every processor bind every shipped file;
    size, latency and integer share by the first target's.
    """

    max_accuracy_drop: float = _limit(
        0.02, 0, "How much lower than the teacher's the score may be, at the bad end of the interval.", le=1
    )
    max_drop: float = _limit(
        0,
        1,
        "How much worse than the teacher's the metric of validate.metric may be, in its own unit, at the bad end of "
        "the interval; 0 takes max_accuracy_drop.",
    )
    max_size_bytes: int = _limit(0, 2, "Largest file in bytes; 0 sets no limit.")
    min_size_ratio: float = _limit(
        0, 3, "How many times smaller than the teacher's float file it must be; 0 sets no limit."
    )
    max_latency_ms: float = _limit(0, 4, "Longest median latency in milliseconds at batch 1; 0 sets no limit.")
    min_speedup: float = _limit(
        0, 5, "How many times faster than the teacher it must be, at the bad end of the interval; 0 sets no limit."
    )
    min_integer_share: float = _limit(
        0, 6, "Share of multiply-accumulates that must really run in integer kernels.", le=1
    )
    every_processor: bool = Field(
        default=True,
        description="Whether integers must be the same on every processor: no kernel may be able to saturate on an x86 "
        "one without VNNI, and no sum be rounded in another way. If not, a version may answer otherwise there than it "
        "was measured.",
        json_schema_extra={"position": 7},
    )

    max_drops: dict[str, float] = Field(
        default={},
        description="Of a model with several outputs: the max_drop of each one's own metric, by the output's name, "
        "such as {box: 0.5}; those that are left out take max_drop.",
        json_schema_extra={"position": 8},
    )

    def accuracy_of(self, head: str = "") -> tuple[str, float]:
        """The limit of what an output's metric may lose, and the setting that it has it from."""
        if head in self.max_drops:
            return f"max_drops.{head}", self.max_drops[head]
        if self.max_drop:
            return "max_drop", self.max_drop
        return "max_accuracy_drop", self.max_accuracy_drop
