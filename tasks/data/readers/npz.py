"""NumPy archives, read member by member without unpacking them whole: memory does not grow with the file.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html in a ZIP. Nothing is ever unpickled.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import Chunk, Part, Reader, Source, column_missing, existing, rows_per_chunk
from tasks.data.splits import SPLITS

Place = tuple[str, Path, str]  # the field that names the archive, the archive, and what its members' names end with

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def read(config: DataConfig) -> Source:
    """Keys `x` and `y` are the part `all`; `x_train`, `y_train`, `x_validation`, `x_test`, … are parts of their own.

    Raises:
        DataError: not an archive, a key that is missing, or an array of Python objects.

    """
    x, y = config.input or "x", config.target or "y"
    labelled = config.problem != "reconstruction"
    found = archive_parts("data.source", existing("data.source", config.source), x, y, labelled)
    if config.test_source:
        test = archive_parts("data.test_source", existing("data.test_source", config.test_source), x, y, labelled)
        found = {"train" if name == "all" else name: part for name, part in found.items()}
        found["test"] = test.get("test") or test.get("all") or test["train"]
    parts = {
        name: member_part(field, path, x + suffix, y + suffix if labelled else "")
        for name, (field, path, suffix) in found.items()
    }
    return Source(parts, beside=partial(beside, found))


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


def archive_parts(field: str, path: Path, x: str, y: str, labelled: bool) -> dict[str, Place]:
    """Where the parts are that one archive holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except DAMAGED as error:
        raise DataError(
            field, str(path), f"no .npz archive that can be read ({error}); write it with numpy.savez"
        ) from error
    suffixes = {"all": ""} if x in keys else {s: f"_{s}" for s in SPLITS if f"{x}_{s}" in keys}
    if not suffixes or ("all" not in suffixes and "train" not in suffixes and field == "data.source"):
        raise column_missing("data.input", x, sorted(keys))
    for suffix in suffixes.values():
        if labelled and y + suffix not in keys:
            raise column_missing("data.target", y + suffix, sorted(keys))
    return {name: (field, path, suffix) for name, suffix in suffixes.items()}


def member_part(field: str, path: Path, x: str, y: str) -> Part:
    """Streams two members side by side."""

    def stream() -> Iterator[Chunk]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{x}.npy") as inputs:
                shape, dtype = header(field, path, x, inputs)
                rows = rows_per_chunk(math.prod(shape[1:]) * dtype.itemsize)
                if not y:
                    for start in range(0, shape[0], rows):
                        yield take(inputs, min(rows, shape[0] - start), shape[1:], dtype), None
                    return
                with archive.open(f"{y}.npy") as targets:
                    target_shape, target_dtype = header(field, path, y, targets)
                    if target_shape[0] != shape[0]:
                        raise DataError(
                            field,
                            str(path),
                            f"{x} has {shape[0]} rows and {y} has {target_shape[0]}; they must be as many",
                        )
                    for start in range(0, shape[0], rows):
                        count = min(rows, shape[0] - start)
                        yield (
                            take(inputs, count, shape[1:], dtype),
                            take(targets, count, target_shape[1:], target_dtype),
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


READER = Reader(read, identity, files, fields=("source", "test_source", "input", "target", "group", "time", "slice"))
