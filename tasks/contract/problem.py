"""The kinds of problem that a model can solve."""

from typing import Literal

Problem = Literal["classification", "regression", "reconstruction"]


def one_for_two(shape: tuple[int | None, ...], expected: tuple[int, ...]) -> bool:
    """Whether a prediction's shape stands for the expected one, as that of one sigmoid does for two classes."""
    return shape == (1,) and expected == (2,)
