"""The kinds of problem that a model can solve."""

from typing import Literal

Problem = Literal["classification", "regression", "reconstruction"]


def one_for_two(given: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a prediction's shape may stand for the wanted one as one sigmoid does, which tells two classes apart."""
    return given == (1,) and wanted == (2,)
