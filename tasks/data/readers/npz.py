"""NumPy archives, read member by member without unpacking them whole: memory does not grow with the file.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html in a ZIP. Nothing is ever unpickled.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import (
    BESIDE,
    Chunk,
    Part,
    Reader,
    Source,
    chunk_of,
    column_missing,
    existing,
    rows_per_chunk,
    separated,
    targets_of,
)
from tasks.data.splits import SPLITS

Place = tuple[str, Path, str]  # the field that names the archive, the archive, and what its members' names end with

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def read(config: DataConfig) -> Source:
    """Keys `x` and `y` are the part `all`; `x_train`, `y_train`, `x_validation`, `x_test`, … are parts of their own.

    Several inputs, and the targets of several outputs, are a key each.

    Raises:
        DataError: not an archive, a key that is missing, or an array of Python objects.

    """
    found = archive_parts("data.source", existing("data.source", config.source), config)
    if config.test_source:
        test = archive_parts("data.test_source", existing("data.test_source", config.test_source), config)
        found = {"train" if name == "all" else name: part for name, part in found.items()}
        found["test"] = test.get("test") or test.get("all") or test["train"]
    return Source({name: member_part(place, config) for name, place in found.items()}, beside=partial(beside, found))


def beside(found: dict[str, Place], part: str, field: str, key: str) -> np.ndarray:
    """All of a member that is neither input nor target, `(rows,)`."""
    _, path, suffix = found[part]
    try:
        with np.load(path, allow_pickle=False) as archive:
            if key + suffix not in archive:
                raise column_missing(field, key + suffix, sorted(archive))
            return np.asarray(archive[key + suffix])
    except DAMAGED as error:
        raise DataError(field, f"{path}: {key + suffix}", f"no array that can be read ({error})") from error


def archive_parts(field: str, path: Path, config: DataConfig) -> dict[str, Place]:
    """Where the parts are that one archive holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except DAMAGED as error:
        raise DataError(
            field, str(path), f"no .npz archive that can be read ({error}); write it with numpy.savez"
        ) from error
    inputs, targets = keys_of(config)
    suffixes = {"all": ""} if inputs[0] in keys else {s: f"_{s}" for s in SPLITS if f"{inputs[0]}_{s}" in keys}
    if not suffixes or ("all" not in suffixes and "train" not in suffixes and field == "data.source"):
        raise column_missing("data.input", inputs[0], sorted(keys))
    for suffix in suffixes.values():
        for of, names in (("input", inputs), ("heads" if config.heads else "target", targets)):
            if missing := next((name + suffix for name in names if name + suffix not in keys), None):
                raise column_missing(f"data.{of}", missing, sorted(keys))
    return {name: (field, path, suffix) for name, suffix in suffixes.items()}


def keys_of(config: DataConfig) -> tuple[list[str], list[str]]:
    """The keys of the inputs and of the targets, without what a split's end with."""
    return separated(config.input or "x", ()), targets_of(config, "y")


def member_part(place: Place, config: DataConfig) -> Part:
    """Streams members side by side."""
    field, path, suffix = place
    inputs, targets = keys_of(config)
    names = list(dict.fromkeys((*inputs, *targets)))

    def stream() -> Iterator[Chunk]:
        try:
            with zipfile.ZipFile(path) as archive, ExitStack() as opened:
                members = {name: opened.enter_context(archive.open(f"{name}{suffix}.npy")) for name in names}
                kinds = {name: header(field, path, name + suffix, member) for name, member in members.items()}
                counts = {name + suffix: shape[0] for name, (shape, _) in kinds.items()}
                if len(set(counts.values())) > 1:
                    told = " and ".join(f"{name} has {count} rows" for name, count in counts.items())
                    raise DataError(field, str(path), f"{told}; they must be as many")
                total = counts[inputs[0] + suffix]
                row_bytes = (math.prod(kinds[name][0][1:]) * kinds[name][1].itemsize for name in inputs)
                rows = rows_per_chunk(sum(row_bytes))
                for start in range(0, total, rows):
                    count = min(rows, total - start)
                    taken = {name: take(members[name], count, shape[1:], of) for name, (shape, of) in kinds.items()}
                    yield chunk_of(
                        {name: taken[name] for name in inputs}, {name: taken[name] for name in targets}, config
                    )
        except DAMAGED as error:
            raise DataError(
                field, str(path), f"the archive is damaged ({error}); write it again with numpy.savez"
            ) from error

    return stream


def header(field: str, path: Path, key: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and type that a member announces."""
    major, _ = np.lib.format.read_magic(member)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise DataError(
            field, f"{path}: {key}", "holds Python objects, which are never unpickled; save an array of numbers"
        )
    if not shape:
        raise DataError(field, f"{path}: {key}", "holds one number; the first axis must count the examples")
    if fortran and len(shape) > 1:
        raise DataError(field, f"{path}: {key}", "is stored column by column; save numpy.ascontiguousarray of it")
    return shape, dtype


def take(member: IO[bytes], rows: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The next rows of a member."""
    size = rows * math.prod(shape) * dtype.itemsize
    content = member.read(size)
    if len(content) != size:
        raise EOFError("fewer rows than it announces")
    return np.frombuffer(content, dtype).reshape(rows, *shape)


def files(config: DataConfig) -> dict[str, Path]:
    """The one or two archives."""
    archives = {"source": existing("data.source", config.source)}
    return archives | ({"test_source": existing("data.test_source", config.test_source)} if config.test_source else {})


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """The format is fixed: the files say it all."""
    return "npz"


READER = Reader(read, identity, files, fields=("source", "test_source", "input", "target", *BESIDE))
