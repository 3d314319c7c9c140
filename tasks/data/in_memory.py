"""Arrays that a program has in memory, written to a file that the reader `npz` reads."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.objects import TAKEN, by_part, column_beside, part_of, without_columns


def keep_arrays(data: Any, folder: Path, beside: Sequence[str] = ()) -> Path:
    """Write arrays to a file that their content names, unless it is there; returns it.

    Args:
        data: what `tasks.data.objects.TAKEN` says; inputs `(n, …)` and one target for each. A `y` of None is left out.
        folder: where the file goes; made if it is not there.
        beside: columns of a DataFrame that are no inputs, but keys of their own.

    Raises:
        DataError: it is something else, or holds Python objects; or such a column is not there.

    """
    arrays = _named(data, beside)
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
    return file


def _named(data: Any, beside: Sequence[str]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, whole in by_part(data).items():
        value = without_columns(whole, beside)
        try:
            chunks = list(part_of(value, "data" if part == "all" else part)())
            members = zip("xy", zip(*chunks, strict=True), strict=False)
            joined = {name: np.concatenate(each) for name, each in members if each[0] is not None}
            if taken := joined.keys() & set(beside):
                raise DataError("data", ", ".join(taken), "is what arrays are called; rename this column")
            joined |= {name: _texts(column_beside(whole, "data", name)) for name in beside}
        except DataError as error:
            raise DataError("data", error.value, error.remedy) from error
        except ValueError as error:
            raise DataError("data", part, f"chunks that do not fit together ({error})") from error
        arrays |= {name if part == "all" else f"{name}_{part}": array for name, array in joined.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError("data", name, f"becomes an array of Python objects; {TAKEN}, as numbers or texts")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _texts(values: np.ndarray) -> np.ndarray:
    """Texts and dates as texts, as a file holds no Python objects; what is missing becomes an empty one."""
    if values.dtype != object:
        return values
    return np.array(["" if value is None or value != value else str(value) for value in values])  # NaN is not itself
