"""Each of several targets by itself: its own score and drop, so that none hides behind another's scale."""

from pydantic import BaseModel, Field

from tasks.measuring.intervals import Interval


class TargetScore(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How right one of several targets is answered."""

    score: Interval = Field(description="Its own R², or what else the metric is.")
    drop: Interval = Field(description="By how much it is worse than the reference's.")
