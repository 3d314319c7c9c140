"""Parquet with one input a row: encoded images (bytes, or Hugging Face's struct around them), or lists of numbers."""

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
    Chunk,
    Part,
    Reader,
    Source,
    as_they_are,
    column_missing,
    files_of,
    named,
    version,
)

CHUNK_ROWS = 64
SUFFIXES = (".parquet",)
FIELDS = ("source", "test_source", "input", "target", "image_size", "color", "group", "time", "slice")


def read(config: DataConfig) -> Source:
    """A file, or a folder whose file names begin with their split.

    Raises:
        DataError: no Parquet, a column that is missing, holds nulls or is of no readable type.

    """
    import pyarrow as pa

    image, label = config.input or "image", config.target or "label"
    columns = [image] if config.problem == "reconstruction" else [image, label]
    files_by_part = files_of(config, SUFFIXES)
    schemas = [(field, path, schema_of(field, path)) for files in files_by_part.values() for field, path in files]
    for _, _, schema in schemas:
        for name, column in zip(("data.input", "data.target"), columns, strict=False):
            if column not in schema.names:
                raise column_missing(name, column, schema.names)
    kinds = {kind_of(schema.field(image).type) for _, _, schema in schemas}
    if len(kinds) > 1 or "" in kinds:
        types = ", ".join(sorted({str(schema.field(image).type) for _, _, schema in schemas}))
        raise DataError(
            "data.input",
            image,
            f"is {types}; store encoded images (binary) or lists of numbers, the same in every file",
        )
    encoded = kinds == {"encoded"}
    if config.problem != "reconstruction" and pa.types.is_nested(schemas[0][2].field(label).type):
        raise DataError(
            "data.target", label, f"is {schemas[0][2].field(label).type}; a target is one number or name a row"
        )
    names = list(dict.fromkeys(filter(None, (label_names(schema, label) for _, _, schema in schemas))))
    if len(names) > 1:
        raise DataError("data.classes", names, "the files name different classes; write them with the same names")
    parts = {part: rows_part(files, columns, encoded) for part, files in files_by_part.items()}
    return Source(
        parts,
        names[0] if names else (),
        decoder(config) if encoded else as_they_are,
        beside=partial(column_beside, files_by_part),
    )


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
    """`encoded` images, `numbers`, or nothing that can be an input."""
    from pyarrow import types

    if types.is_struct(arrow_type) and arrow_type.get_field_index("bytes") >= 0:
        arrow_type = arrow_type.field("bytes").type
    if types.is_binary(arrow_type) or types.is_large_binary(arrow_type):
        return "encoded"
    if types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        value = arrow_type.value_type
        return "numbers" if types.is_integer(value) or types.is_floating(value) else ""
    return ""


def rows_part(files: list[tuple[str, Path]], columns: list[str], encoded: bool) -> Part:
    """Streams the rows of several files, one after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def stream() -> Iterator[Chunk]:
        for field, path in files:
            start = 0
            try:
                # Without pre-buffering, a row group is read as its pages are used, not as a whole.
                with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                    for batch in file.iter_batches(CHUNK_ROWS, columns=columns):
                        for column in columns:
                            refuse_nulls(path, column, batch.column(column), start)
                        inputs = batch.column(columns[0])
                        x = as_encoded(inputs, path, start) if encoded else as_numbers(inputs, path, columns[0])
                        yield x, batch.column(columns[1]).to_numpy(zero_copy_only=False) if len(columns) > 1 else None
                        start += len(inputs)
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
    """Lists of one length as an array `(n, length)`."""
    from pyarrow import compute

    flat = values.flatten()
    if flat.null_count or len(flat) % len(values) or len(compute.unique(compute.list_value_length(values))) > 1:
        raise DataError(
            "data.source",
            str(path),
            f"column {column!r} holds lists of different lengths, or with gaps; make them alike",
        )
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), -1)


def label_names(schema: Any, label: str) -> tuple[str, ...]:
    """Class names from the schema's metadata: `label_names` separated by commas, or Hugging Face's ClassLabel."""
    metadata = schema.metadata or {}
    if names := metadata.get(b"label_names"):
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
