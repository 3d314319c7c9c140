"""A folder of texts as a table: a row a file, its text and the name of the folder that is its class.

`root/class/….txt` at any depth, or `root/{train,val,test}/class/….txt`; without labels `root/….txt`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.folders import first, mixing, split_folders, with_test
from tasks.data.source import existing
from tasks.data.tables.config import TableConfig

SUFFIX = ".txt"
TEXT, LABEL = "text", "label"  # the columns
AT_ONCE = 256  # files


def parts_of(config: DataConfig) -> dict[str, list[tuple[str, Path]]]:
    """The folders of each part, as `(field, folder)`; nothing where the source is no folder of texts.

    Raises:
        DataError: split folders beside others with texts, or a test source without any.

    """
    parts = _parts("data.source", config.source)
    if parts and config.test_source:
        if not (test := _parts("data.test_source", config.test_source)):
            raise DataError("data.test_source", config.test_source, f"has no {SUFFIX} files, as data.source has")
        return with_test(parts, test)
    return parts


def _parts(field: str, value: str) -> dict[str, list[tuple[str, Path]]]:
    root = existing(field, value)
    below = _below(root) if root.is_dir() else {}
    if not below:
        return {}
    folders = [root / name for name in sorted({name.split("/")[0] for name in below if "/" in name})]
    splits = split_folders(field, value, folders) or {"all": root}
    return {split: [(field, folder)] for split, folder in splits.items()}


def texts_in(root: Path) -> list[Path]:
    """The texts that have a class, else all, in an order that mixes the classes."""
    below = _below(root)
    return [below[name] for name in sorted(_taken(below), key=mixing)]


def note_of(root: Path) -> str:
    """What a person should know of texts that are left out."""
    below = _below(root)
    left = len(below) - len(_taken(below))
    return f"Texts beside the class folders of {root.name} have no class: {left:,} are left out." if left else ""


def _taken(below: Mapping[str, Path]) -> list[str]:
    return [name for name in below if "/" in name] or list(below)


def _below(root: Path) -> dict[str, Path]:
    """Every text below a folder that is not hidden, by its name below it."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if name.lower().endswith(SUFFIX) and name[0] != "."]
        found |= {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}  # no link to nowhere
    return found


def schema(root: Path) -> Any:
    """The Arrow schema: the text, and its class where there are class folders."""
    import pyarrow as pa

    labelled = any("/" in name for name in _below(root))
    return pa.schema([(name, pa.string()) for name in ((TEXT, LABEL) if labelled else (TEXT,))])


def batches(field: str, root: Path, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    """Record batches of some columns.

    Raises:
        DataError: texts in another encoding: how many there are, and the first of them.

    """
    import pyarrow as pa

    paths = texts_in(root)
    for start in range(0, len(paths), AT_ONCE):
        taken = paths[start : start + AT_ONCE]
        values: dict[str, list[str | None]] = {LABEL: [path.relative_to(root).parts[0] for path in taken]}
        if TEXT in columns:
            values[TEXT] = [_decoded(path, config) for path in taken]
            if None in values[TEXT]:
                raise _in_another_encoding(field, paths, config)
        yield pa.RecordBatch.from_arrays([pa.array(values[name], pa.string()) for name in columns], list(columns))


def _in_another_encoding(field: str, paths: Sequence[Path], config: TableConfig) -> DataError:
    """Every text is tried, so that all of them are counted."""
    other = [str(path) for path in paths if _decoded(path, config) is None]
    return DataError(
        field,
        f"{len(other):,} of {len(paths):,} texts",
        f"are not in {config.encoding or 'UTF-8'}: {first(other)}; write what they are in, such as "
        "data.table.encoding: cp1252 (Windows) or latin-1, or save them in one encoding",
    )


def _decoded(path: Path, config: TableConfig) -> str | None:
    try:
        return path.read_bytes().decode(config.encoding or "utf-8-sig")
    except UnicodeError:
        return None
