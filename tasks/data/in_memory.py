"""Arrays that a program has in memory, written to a file that the reader `npz` reads."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import fields
from tasks.data.objects import TAKEN, by_part, column_beside, part_of, without_columns

WEIGHT = "sample_weight"  # the key of the weights that came as the third of `(x, y, weights)`


@dataclass(frozen=True)
class Kept:
    """Arrays in a file.

    settings: what reads it, of a recipe's `data`. targets: the keys of what is right.
    """

    file: Path
    settings: dict[str, str]
    targets: tuple[str, ...]


def keep_arrays(data: Any, folder: Path, beside: Sequence[str] = ()) -> Kept:
    """Write arrays to a file that their content names, unless it is there.

    Args:
        data: what `tasks.data.objects.TAKEN` says; inputs `(n, …)` and one target for each. A `y` of None is left out.
        folder: where the file goes; made if it is not there.
        beside: columns of a DataFrame or keys of a dict that are no inputs, but keys of their own.

    Raises:
        DataError: it is something else, or holds Python objects; or such a column is not there.

    """
    arrays, inputs, targets = _named(data, beside)
    weighted = any(name in arrays for name in (WEIGHT, f"{WEIGHT}_train")) and WEIGHT not in beside
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data if array.size else b"")
    file = folder / f"{digest.hexdigest()}.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f"{file.stem}-{os.getpid()}.npz"
        np.savez(written, allow_pickle=False, **arrays)
        written.replace(file)
    settings = {"reader": "npz", "source": str(file), "input": ", ".join(inputs), "weight": WEIGHT}
    unused = {"input": len(inputs) == 1, "weight": not weighted}
    return Kept(file, {name: value for name, value in settings.items() if not unused.get(name)}, tuple(targets))


def _named(data: Any, beside: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """All arrays by their keys, and the keys of inputs and of targets without what a split's end with."""
    arrays: dict[str, np.ndarray] = {}
    inputs: list[str] = []
    targets: list[str] = []
    for part, whole in by_part(data).items():
        try:
            joined, inputs, targets = _of_part(whole, part, beside)
        except DataError as error:
            raise DataError("data", error.value, error.remedy) from error
        except ValueError as error:
            raise DataError("data", part, f"chunks that do not fit together ({error})") from error
        arrays |= {name if part == "all" else f"{name}_{part}": array for name, array in joined.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError("data", name, f"becomes an array of Python objects; {TAKEN}, as numbers or texts")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, inputs, targets


def _of_part(whole: Any, part: str, beside: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """One part's arrays by their keys, and which of these are inputs and targets."""
    streamed = part_of(without_columns(whole, beside), "data" if part == "all" else part)
    chunks = list(streamed())
    y = [each for _, each in chunks if each is not None]
    inputs = {name or "x": values for name, values in fields(np.concatenate([x for x, _ in chunks])).items()}
    targets = {name or "y": values for name, values in fields(np.concatenate(y)).items()} if y else {}
    further = {name: _texts(column_beside(whole, "data", name)) for name in beside}
    if (weights := streamed.weights()) is not None:
        further[WEIGHT] = weights
    every = [*inputs, *targets, *further]
    if twice := {name for name in every if every.count(name) > 1}:
        remedy = "is what two of inputs, targets and columns are called; rename one (the model's input or output too)"
        raise DataError("data", ", ".join(sorted(twice)), remedy)
    return {**inputs, **targets, **further}, [*inputs], [*targets]


def _texts(values: np.ndarray) -> np.ndarray:
    """Texts and dates as texts, as a file holds no Python objects; what is missing becomes an empty one."""
    if values.dtype != object:
        return values
    return np.array(["" if value is None or value != value else str(value) for value in values])  # NaN is not itself
