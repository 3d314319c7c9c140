"""The kinds of problem that a model can solve."""

from typing import Literal

Problem = Literal["classification", "regression", "reconstruction"]
