"""What a reader hands over: the parts that a source has, as streams of chunks."""

import glob
import hashlib
import importlib
import importlib.metadata
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, fields, identifier, packed, records
from tasks.contract.named import field as field_of
from tasks.data.address import HERE, is_address
from tasks.data.config import DataConfig
from tasks.data.remote import local
from tasks.data.tables.slimline_columns import Column

BESIDE = ("group", "time", "slice", "weight")  # config fields that name a column or key beside inputs and targets

# Config fields of some readers only.
OPTIONAL = (
    *("source", "test_source", "input", "target", *BESIDE),
    *("image_size", "color", "seconds", "mel", "corrupt", "features", "table"),
)
CHUNK_BYTES = 4 << 20  # large enough that a chunk's overhead vanishes, small enough to hold several beside a model

# Inputs `(n, …)`, or `(n,)` objects that `Source.decode` turns into them; targets `(n,)` or `(n, targets)`, or none for
# a reconstruction. Several inputs are records by their names; of several outputs the targets are records by what
# `data.heads` calls each target.
Chunk = tuple[np.ndarray, np.ndarray | None]
Part = Callable[[], Iterator[Chunk]]
Decoder = Callable[[np.ndarray], np.ndarray]
Beside = Callable[[str, str, str], np.ndarray]  # of a part, a config field and the column that it names: `(rows,)`


def as_they_are(inputs: np.ndarray) -> np.ndarray:
    """The decoder of a source whose chunks hold arrays."""
    return inputs


def decoding(decoders: Mapping[str, Decoder]) -> Decoder:
    """The decoder of a source whose inputs, by their names, have one each."""
    names = map(identifier, decoders) if len(decoders) > 1 else (ONE,)
    by_name = dict(zip(names, decoders.values(), strict=True))
    return lambda x: packed({name: decode(field_of(x, name)) for name, decode in by_name.items()})


def chunk_of(inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], config: DataConfig) -> Chunk:
    """A chunk of inputs and targets by their names, of which there are as many examples.

    Of several inputs one number an example is a vector of one, as Keras takes it.
    """
    if len(inputs) > 1:
        inputs = {name: x[:, None] if x.ndim == 1 and x.dtype != object else x for name, x in inputs.items()}
    if not targets:
        return packed(inputs), None
    return packed(inputs), records(targets) if config.heads else next(iter(targets.values()))


def asked_of(config: DataConfig, x: str, y: str, there: Collection[str]) -> tuple[list[str], list[str]]:
    """The names of the inputs and of the targets that a config asks for, each once.

    Args:
        config: what is read.
        x: the usual name of the input, where the config says none.
        y: that of the target.
        there: what the source has.

    Raises:
        DataError: one that it has not.

    """
    inputs = separated(config.input or x, there)
    targets = targets_of(config, y)
    for of, names in (("input", inputs), ("heads" if config.heads else "target", targets)):
        if missing := next((name for name in names if name not in there), None):
            raise column_missing(f"data.{of}", missing, there)
    return inputs, targets


def targets_of(config: DataConfig, usual: str) -> list[str]:
    """What a config says of where targets are, of every output that has any, each once."""
    of_heads = config.of_heads.values()
    return list(dict.fromkeys(each.target or usual for each in of_heads if each.problem != "reconstruction"))


def separated(names: str, there: Collection[str]) -> list[str]:
    """Names that are separated by commas, each once, unless all of it is the name of one that is there."""
    return [names] if names in there else list(dict.fromkeys(name.strip() for name in names.split(",")))


@dataclass(frozen=True)
class Source:
    """A data set before it is checked and split.

    parts: `all`, or `train` with any of `validation` and `test`; each call streams the same chunks in the same order.
    classes: names in label order where the source has them; labels may also be the names themselves.
    classes_of: the same of several targets, by what `data.heads` calls each.
    decode: turns the inputs of a chunk into an array `(n, …)`; only what is asked for gets decoded.
    columns, targets: the names of a table's columns, in the order of an example's values; none where nothing has names.
    encoding: what a table's columns become, where they do not all stay the numbers that they are.
    notes: what a person should know of how it was read, in sentences.
    beside: gives a column that is neither input nor target, all its rows in the parts' order; none where there is none.
    weights: what each example of a part counts `(rows,)`, where the source gives it beside inputs and targets.
    learned_from: the same source, with what it takes from examples taken from those of a part that are trained on, as
         `(rows,)` booleans; nothing where it takes nothing else from them.
    """

    parts: Mapping[str, Part]
    classes: tuple[str, ...] = ()
    decode: Callable[[np.ndarray], np.ndarray] = as_they_are
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    encoding: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    beside: Beside | None = None
    weights: Callable[[str], np.ndarray | None] | None = None
    classes_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    learned_from: "Callable[[str, np.ndarray], Source | None] | None" = None


def no_files(config: DataConfig) -> dict[str, Path]:  # noqa: ARG001 - the signature of `Reader.files`
    """For readers that read none of the user's files."""
    return {}


@dataclass(frozen=True)
class Reader:
    """How one kind of source is read.

    read: opens the source.
    identity: what decides the examples besides the files' content, such as a library's version. Cheap, decodes nothing.
    files: every file that is read, under a name that does not depend on where it lies.
    fields: those of the config that it uses, of `OPTIONAL`.
    read_named: opens new data by the names of a model's columns and of its targets, and by what its columns became;
        none where columns have no names.
    called: whether what it reads is known by reading alone, as it has no files.
    """

    read: Callable[[DataConfig], Source]
    identity: Callable[[DataConfig], str]
    files: Callable[[DataConfig], dict[str, Path]] = no_files
    fields: tuple[str, ...] = OPTIONAL
    read_named: Callable[[DataConfig, Sequence[str], Sequence[str], Sequence[Column]], Source] | None = None
    called: bool = False


def version(library: str) -> str:
    """`name version`, for readers whose result a library shapes."""
    return f"{library} {importlib.metadata.version(library)}"


def package(name: str, extra: str) -> Any:
    """A package that only an extra of ours installs.

    Raises:
        DataError: it is not here; says how it is installed.

    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            "data.reader", extra, f"needs the package {name} ({error}): pip install 'slimline[{extra}]'"
        ) from error


def digest_of(source: Source) -> str:
    """The digest of everything that a source holds, for those of which only reading tells; sha256, hex."""
    digest = hashlib.sha256()
    for name, part in source.parts.items():
        for chunk in part():
            for array in (each for of_chunk in chunk if of_chunk is not None for each in fields(of_chunk).items()):
                _add(digest, name, *array)
        if source.weights and (weights := source.weights(name)) is not None:
            _add(digest, name, "weights", weights)
    return digest.hexdigest()


def _add(digest: Any, part: str, name: str, array: np.ndarray) -> None:
    digest.update(f"{part} {name and name + ' '}{array.dtype} {array.shape[1:]} ".encode())
    digest.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).data)


def array_part(inputs: np.ndarray, targets: np.ndarray | None) -> Part:
    """Streams arrays that are in memory, as views."""
    if targets is not None and len(inputs) != len(targets):
        raise DataError(
            "data.source", f"{len(inputs)} inputs, {len(targets)} targets", "give one target for each input"
        )
    rows = rows_per_chunk(inputs.nbytes // max(len(inputs), 1))

    def stream() -> Iterator[Chunk]:
        for start in range(0, len(inputs), rows):
            taken = slice(start, start + rows)
            yield inputs[taken], None if targets is None else targets[taken]

    return stream


def rows_per_chunk(row_bytes: int) -> int:
    """How many examples of so many bytes make a chunk."""
    return max(CHUNK_BYTES // max(row_bytes, 1), 1)


def existing(field: str, value: str) -> Path:
    """The path that a field names; of an address, where its files are on this machine.

    Raises:
        DataError: there is none, it cannot be fetched, or the field is empty.

    """
    if not value:
        raise DataError(field, value, "this reader needs a path; give one")
    if is_address(value) and not value.startswith(HERE):
        return local(field, value)
    path = Path(value.removeprefix(HERE)).expanduser()
    try:
        if path.exists():
            if not os.access(path, os.R_OK):
                raise DataError(field, value, "this user may not read it; change its permissions")
            return path
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise DataError(field, value, f"no path that this system can open ({error})") from error
    raise DataError(field, value, f"there is no such file or folder, seen from {Path.cwd()}; correct the path")


def listed_files(field: str, value: str) -> list[Path]:
    """The files that a field names, by name: one, those directly in a folder, or those that a pattern (`*`, `?`) fits.

    Raises:
        DataError: there is none, or the field is empty.

    """
    pattern = Path(value).expanduser()
    if any(sign in value for sign in "*?[") and not is_address(value) and not pattern.exists():
        files = sorted(file for name in glob.glob(str(pattern), recursive=True) if (file := Path(name)).is_file())
        if not files:
            raise DataError(field, value, f"no file fits this pattern, seen from {Path.cwd()}; correct it")
        return files
    path = existing(field, value)
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


def files_of(config: DataConfig, suffixes: tuple[str, ...]) -> dict[str, list[tuple[str, Path]]]:
    """The files of each part, as `(field, path)`: one file, or a folder's by the split that begins their names.

    A folder's `train*`, `validation*` or `val*`, and `test*` files are those parts; if none is named so, all of them
    together are the part `all`. `test_source` is the part `test` on its own.

    Raises:
        DataError: nothing to read, or a folder that names splits but no `train`.

    """
    parts = files_by_split("data.source", config.source, suffixes)
    if config.test_source:
        test = [
            file
            for files in files_by_split("data.test_source", config.test_source, suffixes).values()
            for file in files
        ]
        parts = {"train" if part == "all" else part: files for part, files in parts.items()} | {"test": test}
    return parts


def files_by_split(field: str, value: str, suffixes: tuple[str, ...]) -> dict[str, list[tuple[str, Path]]]:
    """One field's files, by split; see `files_of`."""
    path = existing(field, value)
    if path.is_file():
        if not path.name.lower().endswith(suffixes):
            raise DataError(field, value, f"this reader reads {' and '.join(suffixes)} files")
        return {"all": [(field, path)]}
    paths = sorted(p for p in partitions(path) if p.is_file() and p.name.lower().endswith(suffixes))
    if not paths:
        raise DataError(field, value, f"the folder holds no {' or '.join(suffixes)} file")
    parts: dict[str, list[tuple[str, Path]]] = {}
    for file in paths:
        parts.setdefault(split_name(file.stem), []).append((field, file))
    if "all" not in parts and "train" in parts:
        return parts
    if set(parts) == {"all"} or field == "data.test_source":
        return {"all": [(field, file) for file in paths]}
    raise DataError(field, value, "name all of its files train…, validation… and test…, or none")


def partitions(folder: Path) -> Iterator[Path]:
    """What lies in a folder, and in those of its folders that are columns, as Spark writes them: `year=2024/`."""
    for path in folder.iterdir():
        if "=" in path.name and path.is_dir():
            yield from partitions(path)
        else:
            yield path


def split_name(name: str) -> str:
    """The split that a file's or folder's name begins with, or `all`."""
    lowered = name.lower()
    for prefix, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        if lowered.startswith(prefix):
            return split
    return "all"


def named(parts: Mapping[str, list[tuple[str, Path]]]) -> dict[str, Path]:
    """Files under names that say their part and place in it, not where they lie."""
    return {f"{part}/{place}": path for part, files in parts.items() for place, (_, path) in enumerate(files)}


def column_missing(field: str, name: str, there: Any) -> DataError:
    """A column or key that is not there, answered with those that are."""
    return DataError(field, name, f"the source has no such column; it has {', '.join(map(str, there)) or 'none'}")
