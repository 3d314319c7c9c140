"""Files as examples, and those of them that cannot be decoded: counted, and named all at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.folders import first
from tasks.data.readers import masks
from tasks.data.readers.images import Encoded


@dataclass(frozen=True, slots=True)
class Example:
    """A file: its name below the root, where it is, its target (of masks the file), and its columns beside."""

    name: str
    path: Path
    target: Any
    beside: dict[str, str]


def numbers_in(examples: Sequence[Example], name: str) -> np.ndarray:
    """A column of the table that is an input beside the file, float32 `(n,)`.

    Raises:
        DataError: there is no table, or it has something else there.

    """
    try:
        return np.array([each.beside[name] for each in examples], np.float32)
    except KeyError as error:
        raise DataError("data.input", name, "is a column of root/labels.csv, and there is none") from error
    except ValueError as error:
        raise DataError("data.input", name, f"is an input beside a file, and those are numbers ({error})") from error


def without_faulty(
    parts: dict[str, list[Example]], fault: Callable[[Encoded], str]
) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """Parts without the files that cannot be decoded, and a note that counts these."""
    faults = faults_of(parts, fault)
    if not faults:
        return parts, ()
    kept = {split: [each for each in examples if str(each.path) not in faults] for split, examples in parts.items()}
    total = sum(map(len, parts.values()))
    return kept, (f"{len(faults):,} of {total:,} files cannot be decoded, and are left out: {first([*faults])}.",)


def all_faults_at_once(
    fault: Callable[[Encoded], str],
    parts: dict[str, list[Example]],
    decode: Callable[[Any], np.ndarray],
    files: Any,
) -> np.ndarray:
    """Decodes; where that fails, every file is tried, so that all that cannot be decoded are named at once.

    Raises:
        DataError: how many there are, and the first of them.

    """
    try:
        return decode(files)
    except DataError as error:
        if not (faults := faults_of(parts, fault)):
            raise
        listed = first([f"{name} ({why})" for name, why in faults.items()])
        total = sum(map(len, parts.values()))
        raise DataError(
            "data.source",
            f"{len(faults):,} of {total:,} files",
            f"cannot be decoded: {listed}; replace or remove them, or leave them out: data.corrupt: skip",
        ) from error


def faults_of(parts: dict[str, list[Example]], fault: Callable[[Encoded], str]) -> dict[str, str]:
    """Why each of the files that cannot be decoded cannot, by name."""
    every = (each for examples in parts.values() for each in examples)
    faults = {}
    for each in every:
        why = fault(Encoded(str(each.path), each.path))
        if not why and isinstance(each.target, Path) and (of_mask := masks.fault(each.target)):
            why = f"its mask: {of_mask}"
        if why:
            faults[str(each.path)] = why
    return faults
