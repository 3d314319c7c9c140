"""What an example has: named inputs, and for each output of a model a target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.named import ONE, Array, field
from tasks.contract.problem import Problem
from tasks.data.statistics import Floats, Variance

Scaling = Literal["none", "unit", "standardize"]


@dataclass(frozen=True, eq=False)
class Input:
    """One input of an example.

    name: `ONE` where there is no other. shape: without the batch axis.
    dtype: of the raw values: uint8 or float32.
    mean, std: `(channels,)` of the train split's raw values; a vector's values each count as a channel.
    minimum, maximum: of the same.
    variance: of each value over the train examples, averaged over the values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    mean: Floats
    std: Floats
    minimum: float
    maximum: float
    variance: float

    def of(self, x: Array) -> Array:
        """Its values `(n, …)` of examples."""
        return field(x, self.name)


class Head(BaseModel, frozen=True, extra="forbid"):
    """One output of a model, and what is right there."""

    name: str = Field(ONE, description="Empty where there is no other.")
    problem: Problem
    output_shape: tuple[int, ...] = Field(
        description="One prediction's: (…, classes), (labels,), (…, targets) or the input's."
    )
    classes: tuple[str, ...] = Field(
        (), description="Names in label order, of classes or of labels that may stand together; else empty."
    )
    variance: Variance = Field(
        1.0,
        description="Of the train targets, one number each where there are several; of a reconstruction's values, "
        "averaged over them; 1.0 for a classification.",
    )
    target_columns: tuple[str, ...] = Field((), description="The names of a table's target columns.")
    weight: float = Field(1.0, description="What its loss counts beside the others'.")

    def of(self, values: Array) -> Array:
        """Its targets or answers `(n, …)` of those of all outputs."""
        return field(values, self.name)
