"""A file's answers to all examples, asked in batches, and whether they can be answers to these data."""

from collections.abc import Callable, Mapping

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.contract.named import fields, packed
from tasks.contract.problem import one_for_two
from tasks.measuring.arrays import Outputs as Outputs

Predict = Callable[[Outputs], Outputs]  # an opened file, asked: examples `(n, …)` to answers `(n, …)`


def answers_fit(actual: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a prediction's shape is the data's, or one sigmoid's.

    A model that answers one value where two are predicted, and is no such classifier, has been refused long before.
    """
    return actual == expected or one_for_two(actual, expected)


def are_answers(answers: Outputs, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether answers have what each output is to have, by its name, and are all finite."""
    named = fields(answers)
    return list(named) == list(shapes) and all(
        answers_fit(values.shape[1:], shapes[name]) and np.isfinite(values).all() for name, values in named.items()
    )


def answers_of(predict: Predict, x: Outputs, shapes: Mapping[str, tuple[int, ...]], batch: int, title: str) -> Outputs:
    """A file's answers to all examples, asked in batches, its outputs in the order of `shapes`.

    Args:
        predict: asks it.
        x: `(n, …)`.
        shapes: of one answer, by the output's name.
        batch: how many it is asked at once.
        title: what a person calls it.

    Raises:
        ConversionError: they have another shape, or are not all finite.

    """
    named = fields(np.concatenate([predict(x[start : start + batch]) for start in range(0, len(x), batch)]))
    if set(named) != set(shapes):
        raise ConversionError(f"{title}: gives {', '.join(named)}, not {', '.join(shapes)}")
    outputs = packed({name: named[name] for name in shapes})  # files have an order of their own
    for name, values in fields(outputs).items():
        which = f"{title}: {name}" if name else title
        if not answers_fit(values.shape[1:], shapes[name]):
            raise ConversionError(
                f"{which}: {len(x)} examples are answered in the shape {values.shape}, not {(len(x), *shapes[name])}: "
                "the model that it was made from has another output than the data"
            )
        broken = int((~np.isfinite(values)).reshape(len(x), -1).any(axis=1).sum())
        if broken:
            raise ConversionError(
                f"{which}: {broken} of {len(x)} test examples are answered with NaN or infinity: "
                "float16 overflows at large values; scale the inputs (data.scaling) or take another quantize.precision"
            )
    return outputs
