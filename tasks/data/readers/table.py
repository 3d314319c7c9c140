"""Tables: some columns are the input, as numbers; one column (or several numbers) is an output's target."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import ONE
from tasks.data.config import DataConfig
from tasks.data.source import BESIDE, Chunk, Part, Reader, Source, column_missing, version
from tasks.data.tables.files import (
    TableFile,
    check_text_settings,
    files_by_part,
    is_text_file,
    named,
    note_of,
    schema_of,
)
from tasks.data.tables.learning import Learned, check_categories, kinds_of, learned
from tasks.data.tables.notes import notes_of, notes_of_new
from tasks.data.tables.rows import LIST, NUMERIC, Rows, Target, columns_in, gap_in, rows_of
from tasks.data.tables.slimline_columns import Column, inputs_of, missing
from tasks.data.tables.values import is_number, is_text
from tasks.data.tables.vocabulary import files_of

FILL = "write data.table.missing: drop, mean, median, zero or indicator"
Files = dict[str, list[TableFile]]

# What pandas calls a column that has no name: in a CSV nothing, read and written again a number, in Parquet its index.
NO_NAME = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def read(config: DataConfig) -> Source:
    """Inputs float32 `(n, inputs)` in the order of the columns (or of `data.input`).

    Raises:
        DataError: no table, a column that is missing, is neither numbers nor categories nor dates, or has gaps.

    """
    files = files_by_part(config)
    first = _first(files)
    check_text_settings(first, config.table)
    schema = schema_of(first, config.table)
    targets = targets_in(config, schema)
    for field in BESIDE:
        if (column := getattr(config, field)) and column not in schema.names:
            raise column_missing(f"data.{field}", column, schema.names)
    notes = list(filter(None, [note_of(first, config.table)]))
    if config.input:
        names = columns_of("data.input", config.input, schema)
    else:
        others = [name for name in schema.names if name not in (*columns_in(targets), *config.beside)]
        names = [name for name in others if not NO_NAME.fullmatch(name)]
        notes += [unnamed_left_out(schema.names.index(name) + 1, name) for name in others if name not in names]
    check_columns(config, first, schema, names, targets)
    whole = "all" if "all" in files else "train"
    kinds = kinds_of(files[whole], names, config)
    notes += [
        f"Column `{column.name}` has numbers as text: they are read as numbers."
        for column in kinds
        if column.kind == "number" and is_text(schema.field(column.name).type)
    ]
    if all(column.plain for column in kinds) and config.table.missing == "refuse":
        return source_of(config, files, kinds, targets, notes)
    rows = partial(used, config, files[whole], kinds, targets)
    found = learned(kinds, rows(), config)
    check_categories(found, config, names)

    def learned_from(part: str, trained: np.ndarray) -> Source | None:
        """What is learned from the rows that are trained on alone; nothing where it is the same."""
        again = learned(kinds, rows(trained), config) if part == whole else found
        if again.columns == found.columns:
            return None
        return encoded(again)

    def encoded(columns: Learned) -> Source:
        on_them = notes_of(columns, found, config)
        for part in files:
            if part != whole:
                on_them += notes_of_new(columns.columns, used(config, files[part], columns.columns, targets), part)
        return source_of(config, files, columns.columns, targets, [*notes, *on_them])

    return replace(encoded(found), learned_from=learned_from)


def read_named(
    config: DataConfig, columns: Sequence[str], targets: Sequence[str], encoding: Sequence[Column]
) -> Source:
    """New rows of a table that a model knows, by the names of its columns, in whatever order they stand now.

    Args:
        config: what is read. Its `input` and `target` win: columns that stand for the model's, in the model's order.
        columns: the model's inputs.
        targets: the model's.
        encoding: what the columns became that it learned from; none where all of them are numbers.

    Raises:
        DataError: a column that is missing, also under another name; holds something else, or has gaps.

    """
    files = files_by_part(config)
    first = _first(files)
    schema = schema_of(first, config.table)
    kinds = tuple(encoding) or tuple(map(Column, columns))
    known = [column.name for column in kinds]
    names = split(config.input, schema) if config.input else known
    if len(set(names)) != len(known):
        raise DataError("data.input", config.input, f"the model takes {len(known)} columns: {', '.join(known)}")
    if absent := [name for name in names if name not in schema.names]:
        raise DataError(
            "data.source",
            str(first.path),
            f"has no column {', '.join(map(repr, absent))}, which the model knows; it has {', '.join(schema.names)}: "
            f"rename them, or list in data.input what stands for {', '.join(known)}, in that order",
        )
    labels = targets_in(config, schema, tuple(targets))
    check_columns(config, first, schema, names, labels)
    taken = [*names, *columns_in(labels), *targets]
    others = [name for name in schema.names if name not in taken and not NO_NAME.fullmatch(name)]
    notes = [f"Columns that the model does not know are left out: {', '.join(others)}."] if others else []
    kinds = tuple(replace(column, name=name) for column, name in zip(kinds, names, strict=True))
    if encoding:
        every = [file for of in files.values() for file in of]
        notes += notes_of_new(kinds, rows_of(every, kinds, labels, config))
    return source_of(config, files, kinds, labels, notes)


def targets_in(config: DataConfig, schema: Any, usual: tuple[str, ...] = ("label",)) -> list[Target]:
    """Where a table has what is right for each output; `usual` are the columns of the one whose recipe names none.

    Raises:
        DataError: a column that is missing, or named twice.

    """
    return [
        Target(
            of_head.target if head else ONE,
            tuple(
                columns_of("data.heads" if head else "data.target", of_head.target, schema)
                if of_head.target
                else there("data.target", usual, schema)
            ),
            of_head.problem in NUMERIC,
        )
        for head, of_head in config.of_heads.items()
        if of_head.problem != "reconstruction"
    ]


def source_of(
    config: DataConfig, files: Files, columns: Sequence[Column], targets: Sequence[Target], notes: Sequence[str]
) -> Source:
    """These columns of the files as a model gets them."""
    inputs = tuple(name for column in columns for name in column.inputs)
    if twice := sorted({name for name in inputs if inputs.count(name) > 1}):
        raise DataError("data.input", twice[0], "two inputs would have this name; rename the column")
    if not inputs:
        raise DataError("data.input", config.input, "no column varies; there is nothing to learn from")
    parts = {part: rows_part(of, columns, targets, config) for part, of in files.items()}
    plain = all(column.plain for column in columns)
    return Source(
        parts,
        columns=inputs,
        targets=columns_in(targets),
        encoding=() if plain else tuple(columns),
        notes=tuple(notes),
        beside=partial(column_beside, config, files, columns, targets),
    )


def column_beside(
    config: DataConfig,
    files: Files,
    columns: Sequence[Column],
    targets: Sequence[Target],
    part: str,
    field: str,
    name: str,
) -> np.ndarray:
    """All values of a column that is neither input nor target, `(rows,)`, of one part's rows that are used."""
    for file in files[part]:
        if name not in (names := schema_of(file, config.table).names):
            raise column_missing(field, f"{file.path}: {name}", names)
    values = [rows.beside for rows in rows_of(files[part], columns, targets, config, beside=name)]
    if any(each.null_count for each in values):
        raise DataError(field, f"{part}: {name}", "has examples without a value; fill or drop such rows")
    return np.concatenate([np.asarray(each.to_numpy(zero_copy_only=False)) for each in values])


def check_columns(
    config: DataConfig, file: TableFile, schema: Any, names: Sequence[str], targets: Sequence[Target]
) -> None:
    """Refuses columns that cannot be inputs, or targets, together.

    Raises:
        DataError: names them.

    """
    for target in targets:
        if not target.numeric and len(target.columns) > 1:
            listed = ", ".join(target.columns)
            raise DataError("data.target", listed, "a classification has one target column; name one")
    if shared := set(names) & set(columns_in(targets)):
        raise DataError(
            "data.input", config.input, f"{', '.join(sorted(shared))} is also the target; take it out of one of the two"
        )
    if not names:
        raise DataError("data.input", config.input, "there is no feature column besides the target")
    for target in targets:
        for name in target.columns:
            kind = schema.field(name).type
            if target.numeric and not (is_number(kind) or is_text(kind)):
                raise DataError("data.target", name, f"holds {kind}, and targets that are no classes are numbers")
            if str(kind) == "binary" and is_text_file(file):
                raise DataError("data.target", name, "holds bytes that are no text in UTF-8; write data.table.encoding")


def unnamed_left_out(place: int, name: str) -> str:
    """The note on a column without a name: `place` counts from 1."""
    called, way = (f", called {name!r}", "list it in data.input") if name else ("", "give it a name")
    return (
        f"Column {place} has no name of its own{called}: pandas writes the number of each row so, and it is left out; "
        f"to learn from it, {way}."
    )


def columns_of(field: str, names: str, schema: Any) -> list[str]:
    """The columns that a field names, one or several separated by commas."""
    columns = there(field, split(names, schema), schema)
    if len(set(columns)) < len(columns):
        raise DataError(field, names, "names a column twice")
    return columns


def there(field: str, columns: Sequence[str], schema: Any) -> list[str]:
    """These columns, once all of them are in the table."""
    for column in columns:
        if column not in schema.names:
            raise column_missing(field, column, schema.names)
    return list(columns)


def split(names: str, schema: Any) -> list[str]:
    """Names that are separated by commas, unless all of it is one column's name."""
    return [names] if names in schema.names else [name.strip() for name in names.split(",")]


def used(
    config: DataConfig,
    files: Sequence[TableFile],
    columns: Sequence[Column],
    targets: Sequence[Target],
    chosen: np.ndarray | None = None,
) -> Iterator[Rows]:
    """The rows of a part that are used: the first `data.limit`, and of these the chosen ones, `(rows,)` booleans."""
    start = 0
    for rows in rows_of(files, columns, targets, config):
        taken = np.arange(start, start + len(rows))
        start += len(rows)
        kept = taken < config.limit if config.limit else np.ones(len(taken), bool)
        if chosen is not None:
            kept &= chosen[np.minimum(taken, len(chosen) - 1)]
        yield replace(rows, values=[values[kept] for values in rows.values])
        if config.limit and start >= config.limit:
            return


def rows_part(
    files: Sequence[TableFile], columns: Sequence[Column], targets: Sequence[Target], config: DataConfig
) -> Part:
    """Streams the rows of several files, one after the other."""

    def stream() -> Iterator[Chunk]:
        for rows in rows_of(files, columns, targets, config):
            x = [inputs(rows.file, column, values) for column, values in zip(columns, rows.values, strict=True)]
            yield np.concatenate(x, axis=1, dtype=np.float32), rows.targets

    return stream


def inputs(file: TableFile, column: Column, values: np.ndarray) -> np.ndarray:
    """One column's inputs, float64 `(n, inputs)`.

    Raises:
        DataError: a missing value that nothing fills; infinity.

    """
    if column.fill is None and missing(values).any():
        raise gap_in(file, column.name, f"{FILL}, or {LIST}")
    try:
        return inputs_of(column, values)
    except ValueError as error:
        raise DataError("data.source", str(file.path), f"{error}; correct or drop such rows, or {LIST}") from error


def _first(files: Files) -> TableFile:
    return next(iter(files.values()))[0]


def files(config: DataConfig) -> dict[str, Path]:
    """The tables, by part, order and what their folders say; and the words that a model of one's own knows."""
    return named(config) | files_of(config.table)


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """Arrow parses the numbers and infers the types."""
    return version("pyarrow")


FIELDS = ("source", "test_source", "input", "target", *BESIDE, "table")
READER = Reader(read, identity, files, FIELDS, read_named)
