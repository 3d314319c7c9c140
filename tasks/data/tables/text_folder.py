"""A folder of texts as a table: a row a file, its text and the name of the folder that is its class.

`root/class/….txt` at any depth, or `root/{train,val,test}/class/….txt`; without labels `root/….txt`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import existing, split_name
from tasks.data.tables.config import TableConfig

SUFFIX = ".txt"
TEXT, LABEL = "text", "label"  # the columns
SPLITS = ("train", "validation", "test")
AT_ONCE = 256  # files
FEW = 5  # files that a message names


def parts_of(config: DataConfig) -> dict[str, list[tuple[str, Path]]]:
    """The folders of each part, as `(field, folder)`; nothing where the source is no folder of texts.

    Raises:
        DataError: split folders beside others with texts, or a test source without any.

    """
    parts = _parts("data.source", config.source)
    if parts and config.test_source:
        test = _parts("data.test_source", config.test_source)
        if not test:
            raise DataError("data.test_source", config.test_source, f"has no {SUFFIX} files, as data.source has")
        parts = {"train" if part == "all" else part: folders for part, folders in parts.items()}
        parts["test"] = test.get("test") or test.get("all") or test["train"]
    return parts


def _parts(field: str, value: str) -> dict[str, list[tuple[str, Path]]]:
    root = existing(field, value)
    if not root.is_dir() or not texts_in(root):
        return {}
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and texts_in(path)]
    splits = {split: path for path in folders if (split := split_name(path.name)) != "all"}
    if "train" not in splits:
        return {"all": [(field, root)]}
    if len(splits) < len(folders):
        raise DataError(
            field, value, "has split folders and others side by side; keep train, validation (or val) and test only"
        )
    return {split: [(field, splits[split])] for split in SPLITS if split in splits}


def texts_in(root: Path) -> list[Path]:
    """The texts that have a class, else all, in an order that mixes the classes: of their names' digests."""
    below = _below(root)
    names = [name for name in below if "/" in name] or list(below)
    return [below[name] for name in sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())]


def note_of(root: Path) -> str:
    """What a person should know of texts that are left out."""
    left = len(_below(root)) - len(texts_in(root))
    return f"Texts beside the class folders of {root.name} have no class: {left:,} are left out." if left else ""


def _below(root: Path) -> dict[str, Path]:
    """Every text below a folder that is not hidden, by its name below it."""
    below = {path.relative_to(root).as_posix(): path for path in root.rglob(f"*{SUFFIX}")}
    return {name: path for name, path in below.items() if "/." not in f"/{name}" and path.is_file()}


def schema(root: Path) -> Any:
    """The Arrow schema: the text, and its class where there are class folders."""
    import pyarrow as pa

    labelled = any(path.parent != root for path in texts_in(root))
    return pa.schema([(name, pa.string()) for name in ((TEXT, LABEL) if labelled else (TEXT,))])


def batches(field: str, root: Path, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    """Record batches of some columns.

    Raises:
        DataError: texts in another encoding: how many there are, and the first of them.

    """
    import pyarrow as pa

    paths = texts_in(root)
    if TEXT in columns and (other := [path for path in paths if _decoded(path, config) is None]):
        named = ", ".join(str(path) for path in other[:FEW])
        more = f" and {len(other) - FEW:,} more" if len(other) > FEW else ""
        raise DataError(
            field,
            f"{len(other):,} of {len(paths):,} texts",
            f"are not in {config.encoding or 'UTF-8'}: {named}{more}; write what they are in, such as "
            "data.table.encoding: cp1252 (Windows) or latin-1, or save them in one encoding",
        )
    for start in range(0, len(paths), AT_ONCE):
        taken = paths[start : start + AT_ONCE]
        values = {
            TEXT: [_decoded(path, config) for path in taken] if TEXT in columns else [],
            LABEL: [path.relative_to(root).parts[0] for path in taken],
        }
        yield pa.RecordBatch.from_arrays([pa.array(values[name], pa.string()) for name in columns], list(columns))


def _decoded(path: Path, config: TableConfig) -> str | None:
    try:
        return path.read_bytes().decode(config.encoding or "utf-8-sig")
    except UnicodeError:
        return None
