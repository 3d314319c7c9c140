"""A file's answers to all examples, asked in batches, and whether they can be answers to these data."""

from collections.abc import Callable

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.contract.problem import one_for_two
from tasks.measuring.arrays import Outputs as Outputs

Predict = Callable[[Outputs], Outputs]  # an opened file, asked: examples `(n, …)` to answers `(n, …)`


def answers_fit(actual: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a prediction's shape is the data's `output_shape`, or one sigmoid's.

    A model that answers one value where two are predicted, and is no such classifier, has been refused long before.
    """
    return actual == expected or one_for_two(actual, expected)


def answers_of(predict: Predict, x: Outputs, shape: tuple[int, ...], batch: int, title: str) -> Outputs:
    """A file's answers to all examples `(n, *shape)`, asked in batches; `title` is what a person calls it.

    Raises:
        ConversionError: they have another shape, or are not all finite.

    """
    outputs = np.concatenate([predict(x[start : start + batch]) for start in range(0, len(x), batch)])
    if not answers_fit(outputs.shape[1:], shape):
        raise ConversionError(
            f"{title}: {len(x)} examples are answered in the shape {outputs.shape}, not {(len(x), *shape)}: "
            "the model that it was made from has another output than the data"
        )
    broken = int((~np.isfinite(outputs)).reshape(len(x), -1).any(axis=1).sum())
    if broken:
        raise ConversionError(
            f"{title}: {broken} of {len(x)} test examples are answered with NaN or infinity: "
            "float16 overflows at large values; scale the inputs (data.scaling) or take another quantize.precision"
        )
    return outputs
