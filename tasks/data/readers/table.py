"""CSV and Parquet tables: numeric columns are the features, one column (or several numbers) the target."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers.csv_file import SUFFIXES as TEXT
from tasks.data.readers.csv_file import open_csv
from tasks.data.source import Chunk, Part, Reader, Source, column_missing, files_of, named, version

CHUNK_ROWS = 8192
SUFFIXES = (*TEXT, ".parquet")

# What pandas calls a column that has no name: in a CSV nothing, read and written again a number, in Parquet its index.
NO_NAME = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def read(config: DataConfig) -> Source:
    """Features float32 `(n, features)` in the order of the columns (or of `data.input`).

    Raises:
        DataError: no table, a column that is missing, not numeric, or has gaps.

    """
    files_by_part = files_of(config, SUFFIXES)
    first_field, first = next(iter(files_by_part.values()))[0]
    schema = schema_of(first_field, first)
    targets = [] if config.problem == "reconstruction" else columns_of("data.target", config.target or "label", schema)
    for field in ("group", "time", "slice"):
        if (column := getattr(config, field)) and column not in schema.names:
            raise column_missing(f"data.{field}", column, schema.names)
    if config.input:
        return source_of(config, files_by_part, schema, columns_of("data.input", config.input, schema), targets, [])
    others = [name for name in schema.names if name not in (*targets, *config.beside)]
    features = [name for name in others if not NO_NAME.fullmatch(name)]
    notes = [unnamed_left_out(schema.names.index(name) + 1, name) for name in others if name not in features]
    return source_of(config, files_by_part, schema, features, targets, notes)


def read_named(config: DataConfig, columns: Sequence[str], targets: Sequence[str]) -> Source:
    """New rows of a table that a model knows, by the names of its columns, in whatever order they stand now.

    Args:
        config: what is read. Its `input` and `target` win: columns that stand for the model's, in the model's order.
        columns: the model's.
        targets: the model's.

    Raises:
        DataError: a column that is missing, also under another name; not numeric, or has gaps.

    """
    files_by_part = files_of(config, SUFFIXES)
    first_field, first = next(iter(files_by_part.values()))[0]
    schema = schema_of(first_field, first)
    features = split(config.input, schema) if config.input else list(columns)
    if len(set(features)) != len(columns):
        raise DataError("data.input", config.input, f"the model takes {len(columns)} columns: {', '.join(columns)}")
    if missing := [name for name in features if name not in schema.names]:
        raise DataError(
            "data.source",
            str(first),
            f"has no column {', '.join(map(repr, missing))}, which the model knows; it has {', '.join(schema.names)}: "
            f"rename them, or list in data.input what stands for {', '.join(columns)}, in that order",
        )
    labels: list[str] = []
    if config.problem != "reconstruction":
        labels = split(config.target, schema) if config.target else list(targets)
    if missing := [name for name in labels if name not in schema.names]:
        raise column_missing("data.target", ", ".join(missing), schema.names)
    others = [
        name for name in schema.names if name not in (*features, *labels, *targets) and not NO_NAME.fullmatch(name)
    ]
    notes = [f"Columns that the model does not know are left out: {', '.join(others)}."] if others else []
    return source_of(config, files_by_part, schema, features, labels, notes)


def source_of(
    config: DataConfig,
    files_by_part: dict[str, list[tuple[str, Path]]],
    schema: Any,
    features: list[str],
    targets: list[str],
    notes: list[str],
) -> Source:
    """These columns of the files, once they are looked at."""
    if config.problem == "classification" and len(targets) > 1:
        raise DataError("data.target", config.target, "a classification has one target column; name one")
    if shared := set(features) & set(targets):
        raise DataError(
            "data.input", config.input, f"{', '.join(sorted(shared))} is also the target; take it out of one of the two"
        )
    if not features:
        raise DataError("data.input", config.input, "there is no feature column besides the target")
    check_types(schema, features, "data.input")
    if config.problem == "regression":
        check_types(schema, targets, "data.target")
    numeric = [*features, *(targets if config.problem == "regression" else [])]
    parts = {part: rows_part(files, features, targets, numeric) for part, files in files_by_part.items()}
    beside = partial(column_beside, files_by_part)
    return Source(parts, columns=tuple(features), targets=tuple(targets), notes=tuple(notes), beside=beside)


def column_beside(files_by_part: dict[str, list[tuple[str, Path]]], part: str, field: str, column: str) -> np.ndarray:
    """All values of a column that is neither input nor target, `(rows,)`, of one part's tables."""
    import pyarrow as pa

    values = []
    for source, path in files_by_part[part]:
        schema = schema_of(source, path)
        if column not in schema.names:
            raise column_missing(field, f"{path}: {column}", schema.names)
        numeric = [column] if pa.types.is_integer(schema.field(column).type) else []
        try:
            batches = [batch.column(column) for batch in batches_of(path, schema, [column], numeric)]
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                field, str(path), f"cannot be read as a table ({error}); correct the line or the column"
            ) from error
        if any(batch.null_count for batch in batches):
            raise DataError(field, f"{path}: {column}", "has examples without a value; fill or drop such rows")
        values += [np.asarray(batch.to_numpy(zero_copy_only=False)) for batch in batches]
    return np.concatenate(values)


def unnamed_left_out(place: int, name: str) -> str:
    """The note on a column without a name: `place` counts from 1."""
    called, way = (f", called {name!r}", "list it in data.input") if name else ("", "give it a name")
    return (
        f"Column {place} has no name of its own{called}: pandas writes the number of each row so, and it is left out; "
        f"to learn from it, {way}."
    )


def columns_of(field: str, names: str, schema: Any) -> list[str]:
    """The columns that a field names, one or several separated by commas."""
    columns = split(names, schema)
    for column in columns:
        if column not in schema.names:
            raise column_missing(field, column, schema.names)
    if len(set(columns)) < len(columns):
        raise DataError(field, names, "names a column twice")
    return columns


def split(names: str, schema: Any) -> list[str]:
    """Names that are separated by commas, unless all of it is one column's name."""
    return [names] if names in schema.names else [name.strip() for name in names.split(",")]


def check_types(schema: Any, columns: list[str], field: str) -> None:
    """Refuses columns that hold no numbers."""
    from pyarrow import types

    for column in columns:
        kind = schema.field(column).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
            remedy = f"holds {kind}, not numbers; encode it as numbers, or list the columns to use in data.input"
            raise DataError(field, column, remedy)


def schema_of(field: str, path: Path) -> Any:
    """A table's Arrow schema; a CSV's is inferred from its first megabytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            schema = pq.read_schema(path)
        else:
            with closing(open_csv(path, {})) as reader:
                schema = reader.schema
    except (pa.ArrowException, OSError) as error:
        raise DataError(field, str(path), f"no table that can be read ({error})") from error
    if len(set(schema.names)) < len(schema.names):
        raise DataError(
            field, str(path), "two columns have the same name; a CSV begins with a line of distinct column names"
        )
    return schema


def rows_part(files: list[tuple[str, Path]], features: list[str], targets: list[str], numeric: Sequence[str]) -> Part:
    """Streams the rows of several files, one after the other; `numeric` are the columns whose numbers count."""
    import pyarrow as pa

    def stream() -> Iterator[Chunk]:
        for field, path in files:
            schema = schema_of(field, path)
            for column in (*features, *targets):
                if column not in schema.names:
                    raise column_missing(field, f"{path}: {column}", schema.names)
            check_types(schema, features, "data.input")
            try:
                for batch in batches_of(path, schema, [*features, *targets], numeric):
                    x = np.stack([numbers(path, name, batch.column(name)) for name in features], axis=1)
                    yield x, target_values(path, targets, batch)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    field, str(path), f"cannot be read as a table ({error}); correct the line or the column"
                ) from error

    return stream


def batches_of(path: Path, schema: Any, columns: list[str], numeric: Sequence[str]) -> Iterator[Any]:
    """Record batches of the columns in use; `numeric` are those of them whose numbers count, and not as labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield from file.iter_batches(CHUNK_ROWS, columns=columns)
        return
    # A column that begins with whole numbers may go on with others.
    types = {name: pa.float64() for name in numeric if pa.types.is_integer(schema.field(name).type)}
    with closing(open_csv(path, types)) as reader:
        for batch in reader:
            for start in range(0, len(batch), CHUNK_ROWS):
                yield batch.slice(start, CHUNK_ROWS)


def numbers(path: Path, column: str, values: Any) -> np.ndarray:
    """One column as float32 `(n,)`.

    Raises:
        DataError: a missing value, NaN or infinity.

    """
    import pyarrow as pa

    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused with all else
        array = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float32)
    if values.null_count or not np.isfinite(array).all():
        raise gap(path, column)
    return array


def target_values(path: Path, targets: list[str], batch: Any) -> np.ndarray | None:
    """Labels `(n,)` as they stand, or numbers `(n, targets)`."""
    if not targets:
        return None
    values = batch.column(targets[0])
    if len(targets) == 1:
        labels = np.asarray(values.to_numpy(zero_copy_only=False))
        if values.null_count or (labels.dtype == object and (labels == "").any()):
            raise gap(path, targets[0])
        return labels
    return np.stack([numbers(path, name, batch.column(name)) for name in targets], axis=1)


def gap(path: Path, column: str) -> DataError:
    """A missing or infinite value."""
    return DataError(
        "data.source",
        str(path),
        f"column {column!r} has missing or infinite values; fill or drop such rows, or list the columns to use in "
        "data.input",
    )


def files(config: DataConfig) -> dict[str, Path]:
    """The tables, by part and order."""
    return named(files_of(config, SUFFIXES))


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """Arrow parses the numbers and infers the types."""
    return version("pyarrow")


READER = Reader(
    read, identity, files, ("source", "test_source", "input", "target", "group", "time", "slice"), read_named
)
