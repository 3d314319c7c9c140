"""The kinds of problem that a model can solve."""

from typing import Literal

# classification: one class for each example, or for each place of it, such as a pixel or a time step.
# multilabel: any number of labels at once. regression: numbers. reconstruction: the input itself.
Problem = Literal["classification", "multilabel", "regression", "reconstruction"]


def one_for_two(shape: tuple[int | None, ...], expected: tuple[int, ...]) -> bool:
    """Whether a prediction's shape stands for the expected one, as that of one sigmoid does for two classes."""
    return shape[-1:] == (1,) and expected[-1:] == (2,) and shape[:-1] == expected[:-1]
