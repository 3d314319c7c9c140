"""Parquet with an input a column: encoded images (bytes, or Hugging Face's struct around them), or lists of numbers."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers.images import Encoded, decoder
from tasks.data.source import (
    BESIDE,
    Chunk,
    Part,
    Reader,
    Source,
    as_they_are,
    asked_of,
    chunk_of,
    column_missing,
    decoding,
    files_of,
    named,
    version,
)

CHUNK_ROWS = 64
SUFFIXES = (".parquet",)
FIELDS = ("source", "test_source", "input", "target", "image_size", "color", *BESIDE)


def read(config: DataConfig) -> Source:
    """A file, or a folder whose file names begin with their split.

    Raises:
        DataError: no Parquet, a column that is missing, holds nulls or is of no readable type.

    """
    files_by_part = files_of(config, SUFFIXES)
    schemas = [schema_of(field, path) for files in files_by_part.values() for field, path in files]
    for schema in schemas:
        inputs, targets = asked_of(config, "image", "label", schema.names)
    kinds = {name: kind_in(schemas, name, several=len(inputs) > 1) for name in inputs}
    for label in targets:
        refuse_no_target(schemas[0].field(label).type, label)
    classes = {label: classes_in(schemas, label, alone=len(targets) == 1) for label in targets}
    return Source(
        {part: rows_part(files, kinds, targets, config) for part, files in files_by_part.items()},
        () if config.heads else classes.get(next(iter(targets), ""), ()),
        decoding({name: decoder(config) if kind == "encoded" else as_they_are for name, kind in kinds.items()}),
        beside=partial(column_beside, files_by_part),
        classes_of=classes if config.heads else {},
    )


def kind_in(schemas: list[Any], name: str, *, several: bool) -> str:
    """What an input's column holds, in every file the same; where there are several inputs also single numbers."""
    kinds = {kind_of(schema.field(name).type) for schema in schemas}
    if len(kinds) > 1 or "" in kinds or (kinds == {"number"} and not several):
        types = ", ".join(sorted({str(schema.field(name).type) for schema in schemas}))
        raise DataError(
            "data.input",
            name,
            f"is {types}; store encoded images (binary) or lists of numbers, the same in every file",
        )
    return kinds.pop()


def refuse_no_target(arrow_type: Any, label: str) -> None:
    """Says what a target may be, where it is something else."""
    from pyarrow import types

    if types.is_nested(arrow_type) and kind_of(arrow_type) != "numbers":
        raise DataError(
            "data.target", label, f"is {arrow_type}; a target is one number or name a row, or a list of numbers"
        )


def classes_in(schemas: list[Any], label: str, *, alone: bool) -> tuple[str, ...]:
    """The names of a target's classes, as the files say them."""
    names = list(dict.fromkeys(filter(None, (label_names(schema, label, alone=alone) for schema in schemas))))
    if len(names) > 1:
        raise DataError("data.classes", names, "the files name different classes; write them with the same names")
    return names[0] if names else ()


def column_beside(files_by_part: dict[str, list[tuple[str, Path]]], part: str, field: str, column: str) -> np.ndarray:
    """All values of a column that is neither input nor target, `(rows,)`, of one part's Parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = []
    for _, path in files_by_part[part]:
        try:
            with pq.ParquetFile(path) as file:
                if column not in file.schema_arrow.names:
                    raise column_missing(field, f"{path}: {column}", file.schema_arrow.names)
                read = file.read(columns=[column]).column(column)
        except (pa.ArrowException, OSError) as error:
            raise DataError(field, str(path), f"the file is damaged ({error}); write it again") from error
        refuse_nulls(path, column, read, 0)
        values.append(np.asarray(read.to_numpy()))
    return np.concatenate(values)


def schema_of(field: str, path: Path) -> Any:
    """A file's Arrow schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(field, str(path), f"no Parquet file that can be read ({error}); write it again") from error


def kind_of(arrow_type: Any) -> str:
    """`encoded` images, lists of `numbers`, one `number`, or nothing that can be an input."""
    from pyarrow import types

    if types.is_struct(arrow_type) and arrow_type.get_field_index("bytes") >= 0:
        arrow_type = arrow_type.field("bytes").type
    if types.is_binary(arrow_type) or types.is_large_binary(arrow_type):
        return "encoded"
    if types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        value = arrow_type.value_type
        return "numbers" if types.is_integer(value) or types.is_floating(value) else ""
    return "number" if types.is_integer(arrow_type) or types.is_floating(arrow_type) else ""


def rows_part(files: list[tuple[str, Path]], kinds: dict[str, str], targets: list[str], config: DataConfig) -> Part:
    """Streams the rows of several files, one after the other; `kinds` are those of the inputs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys((*kinds, *targets)))

    def stream() -> Iterator[Chunk]:
        for field, path in files:
            start = 0
            try:
                # Without pre-buffering, a row group is read as its pages are used, not as a whole.
                with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                    for batch in file.iter_batches(CHUNK_ROWS, columns=columns):
                        for column in columns:
                            refuse_nulls(path, column, batch.column(column), start)
                        x = {
                            name: as_encoded(batch.column(name), path, start)
                            if kind == "encoded"
                            else as_numbers(batch.column(name), path, name)
                            for name, kind in kinds.items()
                        }
                        y = {name: as_numbers(batch.column(name), path, name) for name in targets}
                        yield chunk_of(x, y, config)
                        start += len(batch)
            except (pa.ArrowException, OSError) as error:
                raise DataError(field, str(path), f"the file is damaged ({error}); write it again") from error

    return stream


def refuse_nulls(path: Path, column: str, values: Any, start: int) -> None:
    """Says where the first missing value of a column is."""
    if values.null_count:
        row = start + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(
            "data.source", str(path), f"column {column!r} has no value in row {row}; fill or drop such rows"
        )


def as_encoded(values: Any, path: Path, start: int) -> np.ndarray:
    """Encoded images `(n,)`, each with a name for messages."""
    from pyarrow import types

    if types.is_struct(values.type):
        values = values.field("bytes")
    images = np.empty(len(values), object)
    images[:] = [
        Encoded(f"{path}, row {start + place}", content or b"") for place, content in enumerate(values.to_pylist())
    ]
    return images


def as_numbers(values: Any, path: Path, column: str) -> np.ndarray:
    """Lists of one length as an array `(n, length)`; single values as `(n,)`."""
    from pyarrow import compute, types

    if not types.is_nested(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    flat = values.flatten()
    if flat.null_count or len(flat) % len(values) or len(compute.unique(compute.list_value_length(values))) > 1:
        raise DataError(
            "data.source",
            str(path),
            f"column {column!r} holds lists of different lengths, or with gaps; make them alike",
        )
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), -1)


def label_names(schema: Any, label: str, *, alone: bool) -> tuple[str, ...]:
    """Class names from the schema's metadata: `label_names` separated by commas, or Hugging Face's ClassLabel.

    The first does not say of which target they are: it counts where there is one alone.
    """
    metadata = schema.metadata or {}
    if alone and (names := metadata.get(b"label_names")):
        return tuple(name.strip() for name in names.decode().split(","))
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (ValueError, KeyError, TypeError):  # another writer's metadata, or a label without names
        return ()


def files(config: DataConfig) -> dict[str, Path]:
    """The Parquet files, by part and order."""
    return named(files_of(config, SUFFIXES))


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """Pillow decides the pixels; pyarrow only carries them."""
    return version("pillow")


READER = Reader(read, identity, files, fields=FIELDS)
