"""Outcomes of trials with the figures that a test needs."""

from typing import Literal

from tasks.evidence.evidence import Tried
from tasks.measuring.intervals import Interval
from tasks.search.study import Outcome
from tasks.store.pausing import Pause


def outcome(
    *,
    drop: float,
    size: int,
    speedup: float,
    misses: dict[str, float] | None = None,
    how: Literal["measured", "rejected"] = "measured",
) -> Outcome:
    file = Tried(
        route="training",
        target="onnxruntime",
        precision="int8",
        accuracy=Interval(low=0.8, estimate=0.9 - drop, high=1),
        drop=Interval(low=drop - 0.02, estimate=drop, high=drop + 0.02),
        size_bytes=size,
        latency_p50=0.001 / speedup,
        speedup=Interval(low=speedup * 0.9, estimate=speedup, high=speedup * 1.1),
        integer_share=1,
        inside=not misses,
        misses=misses or {},
        chosen=False,
    )
    return Outcome(how=how, files=(file,), why="" if how == "measured" else "too large")


def waiting(
    *, score: float, size: int, speedup: float, misses: dict[str, float] | None = None, epoch: int = 3
) -> Outcome:
    """Of a trial whose training pauses after an epoch of 20."""
    known = outcome(drop=0.9, size=size, speedup=speedup, misses=misses).files
    reached = Pause(stage="distill", epoch=epoch, epochs=20, score=score)
    return Outcome(how="paused", files=known, reached=reached)
