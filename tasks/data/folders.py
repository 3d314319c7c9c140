"""Folders of files, an example each: their splits by the folders' names, their order, and how messages name some."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tasks.contract.errors import DataError
from tasks.data.source import split_name

SPLITS = ("train", "validation", "test")
FEW = 5  # files that a message names

Found = TypeVar("Found")


def split_folders(field: str, value: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The split that each of a root's folders is, the training's first; none unless one is that of `train`.

    Raises:
        DataError: others stand beside them.

    """
    splits = {split: path for path in folders if (split := split_name(path.name)) in SPLITS}
    if "train" not in splits:
        return {}
    if len(splits) < len(folders):
        raise DataError(
            field, value, "has split folders and others side by side; keep train, validation (or val) and test only"
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def with_test(parts: Mapping[str, Found], test: Mapping[str, Found]) -> dict[str, Found]:
    """The parts of a source whose test split is that of another, or all of it."""
    found = {"train" if part == "all" else part: each for part, each in parts.items()}
    return {**found, "test": test.get("test") or test.get("all") or test["train"]}


def mixing(name: str) -> bytes:
    """The key of an order that mixes the classes: the digest of a file's name below the root."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def first(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW:,} more" if len(names) > FEW else "")
