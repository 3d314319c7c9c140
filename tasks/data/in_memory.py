"""Arrays that a program has in memory, written to a file that the reader `npz` reads."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError

SHAPES = "give (x, y), or ((x_train, y_train), (x_test, y_test)); y may be None for a reconstruction"


def keep_arrays(data: Any, folder: Path) -> Path:
    """Write arrays to a file that their content names, unless it is there; returns it.

    Args:
        data: `(x, y)` or `((x_train, y_train), (x_test, y_test))`: inputs `(n, …)` and one target for each, as NumPy
            arrays or what becomes one; a `y` of None is left out.
        folder: where the file goes; made if it is not there.

    Raises:
        DataError: it is something else, or holds Python objects.

    """
    arrays = _named(data)
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data if array.size else b"")
    file = folder / f"{digest.hexdigest()}.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{file.stem}-{os.getpid()}.npz"
        np.savez(beside, allow_pickle=False, **arrays)
        beside.replace(file)
    return file


def _named(data: Any) -> dict[str, np.ndarray]:
    match data:
        case ((x_train, y_train), (x_test, y_test)) if isinstance(data, tuple):
            pairs = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        case (x, y) if isinstance(data, tuple):
            pairs = {"x": x, "y": y}
        case _:
            raise DataError("data", type(data).__name__, SHAPES)
    arrays = {name: np.ascontiguousarray(value) for name, value in pairs.items() if value is not None}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError(
                "data", name, f"becomes an array of Python objects; {SHAPES}, as arrays of numbers or texts"
            )
    return arrays
