"""A table of file names and labels, beside the files or above them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import column_missing

SUFFIXES = (".csv", ".tsv")
NAMES = ("labels", "metadata")  # the second is what Hugging Face's image folders have
FILE_COLUMNS = ("file", "file_name", "filename", "image", "path", "name", "id")  # where data.input names none

Row = tuple[str, list[str], dict[str, str]]  # a file's name, its targets, and its columns beside


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
    file = config.input or next((name for name in FILE_COLUMNS if name in columns), "")
    if file not in columns:
        raise column_missing("data.input", file or FILE_COLUMNS[0], columns)
    targets: list[str] = []
    if config.problem != "reconstruction":
        target = config.target or "label"
        targets = [target] if target in columns else [name.strip() for name in target.split(",")]
    named = [("target", name) for name in targets] + [(of, getattr(config, of)) for of in ("group", "time", "slice")]
    for of, name in named:
        if name and name not in columns:
            raise column_missing(f"data.{of}", name, columns)
    rows: dict[str, Row] = {}
    for line in reader:
        cells = [line[name] for name in (file, *targets)]
        if not all(cells):
            raise DataError(field, f"{table}, line {reader.line_num}", "has a gap; fill it, or drop the line")
        if cells[0] in rows:
            raise DataError(field, f"{table}, line {reader.line_num}", f"lists {cells[0]} again; keep one line of it")
        rows[cells[0]] = (cells[0], cells[1:], {name: line[name] or "" for name in config.beside})
    if not rows:
        raise DataError(field, str(table), "lists no file; it has a line of column names, and a line for each file")
    return list(rows.values())


def as_targets(field: str, problem: str, values: list[list[str]]) -> list[Any]:
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
