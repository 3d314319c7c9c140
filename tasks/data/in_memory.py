"""Arrays that a program has in memory, written to a file that the reader `npz` reads."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.objects import TAKEN, by_part, part_of


def keep_arrays(data: Any, folder: Path) -> Path:
    """Write arrays to a file that their content names, unless it is there; returns it.

    Args:
        data: what `tasks.data.objects.TAKEN` says; inputs `(n, …)` and one target for each. A `y` of None is left out.
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
    arrays: dict[str, np.ndarray] = {}
    for part, value in by_part(data).items():
        try:
            chunks = list(part_of(value, "data" if part == "all" else part)())
            members = zip("xy", zip(*chunks, strict=True), strict=False)
            joined = {name: np.concatenate(each) for name, each in members if each[0] is not None}
        except DataError as error:
            raise DataError("data", error.value, error.remedy) from error
        except ValueError as error:
            raise DataError("data", part, f"chunks that do not fit together ({error})") from error
        arrays |= {name if part == "all" else f"{name}_{part}": array for name, array in joined.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError("data", name, f"becomes an array of Python objects; {TAKEN}, as numbers or texts")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
