"""A table of file names and labels, beside the files or above them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import BESIDE, column_missing, separated

SUFFIXES = (".csv", ".tsv")
NAMES = ("labels", "metadata")  # the second is what Hugging Face's image folders have
FILE_COLUMNS = ("file", "file_name", "filename", "image", "path", "name", "id")  # where data.input names none

# A file's name, its targets by what `data.heads` calls them, and its columns beside: those that are inputs too.
Row = tuple[str, dict[str, list[str]], dict[str, str]]


def table_in(folder: Path) -> Path | None:
    """The table that says what the files below a folder are."""
    return next((file for name in NAMES for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()), None)


def rows_of(field: str, table: Path, config: DataConfig) -> list[Row]:
    """What a table says of each file, in its order.

    Raises:
        DataError: no table, a column that is missing, a file that stands in it twice, or a cell without a value.

    """
    try:
        lines = table.read_text("utf-8-sig").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(field, str(table), f"cannot be read as UTF-8 ({error}); save it so") from error
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=(lines or [""])[0].count))
    columns: Sequence[str] = reader.fieldnames or ()
    file, *more = inputs_of(config, columns)
    targets = targets_of(config, columns)
    named = [("input", name) for name in (file, *more)]
    named += [("heads" if config.heads else "target", name) for names in targets.values() for name in names]
    named += [(of, getattr(config, of)) for of in BESIDE if getattr(config, of)]
    for of, name in named:
        if name not in columns:
            raise column_missing(f"data.{of}", name, columns)
    needed = [file, *more, *(name for names in targets.values() for name in names)]
    rows: dict[str, Row] = {}
    for line in reader:
        if not all(line[name] for name in needed):
            raise DataError(field, f"{table}, line {reader.line_num}", "has a gap; fill it, or drop the line")
        if line[file] in rows:
            raise DataError(field, f"{table}, line {reader.line_num}", f"lists {line[file]} again; keep one line of it")
        cells = {of: [line[name] for name in names] for of, names in targets.items()}
        rows[line[file]] = (line[file], cells, {name: line[name] or "" for name in (*config.beside, *more)})
    if not rows:
        raise DataError(field, str(table), "lists no file; it has a line of column names, and a line for each file")
    return list(rows.values())


def inputs_of(config: DataConfig, columns: Sequence[str]) -> list[str]:
    """The column of the files' names, and those of numbers that are inputs beside the file."""
    if config.input:
        return separated(config.input, columns)
    return [next((name for name in FILE_COLUMNS if name in columns), FILE_COLUMNS[0])]


def targets_of(config: DataConfig, columns: Sequence[str]) -> dict[str, list[str]]:
    """The columns of each output's target, by what `data.heads` calls it; the only one by `ONE`."""
    of_heads = {head and of_head.target: of_head for head, of_head in config.of_heads.items()}
    return {
        name: separated(of_head.target or "label", columns)
        for name, of_head in of_heads.items()
        if of_head.problem != "reconstruction"
    }


def as_targets(field: str, config: DataConfig, values: list[dict[str, list[str]]]) -> list[dict[str, Any]]:
    """What the cells of each file's targets say, by the same names; see `_as_targets`."""
    problems = {head and of_head.target: of_head.problem for head, of_head in config.of_heads.items()}
    read = {name: _as_targets(field, problems[name], [row[name] for row in values]) for name in values[0]}
    return [dict(zip(read, row, strict=True)) for row in zip(*read.values(), strict=True)]


def _as_targets(field: str, problem: str, values: list[list[str]]) -> list[Any]:
    """Labels as they are written, whole numbers where all are; for other problems numbers, a list for each file.

    Raises:
        DataError: a target that has to be a number and is none, or several labels for one file of a classification.

    """
    if problem != "classification":
        try:
            return [[float(value) for value in row] for row in values]
        except ValueError as error:
            raise DataError(field, str(error), f"targets of a {problem} are numbers, with a decimal point") from error
    if any(len(row) > 1 for row in values):
        raise DataError(field, "several columns", "a classification has one target column; name one")
    labels = [row[0] for row in values]
    try:
        return [int(label) for label in labels]
    except ValueError:
        return labels
