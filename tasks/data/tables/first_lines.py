"""What a text file's beginning tells: its encoding, what separates its columns, and whether it names them."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tasks.contract.errors import DataError
from tasks.data.tables.config import TableConfig
from tasks.data.tables.values import MARKS

SEPARATORS = ",;\t"
BYTES = 1 << 20  # that are looked at: a table has no more names than fit
ROWS = 200  # that are looked at
COUNTED = 3  # names that are numbers from 0, as pandas writes them, are so many at least: 0 and 1 may well be values
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([T ].*)?")


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out. names: of its columns, where its first line has none. note: what a person reads."""

    separator: str
    encoding: str
    names: tuple[str, ...] = ()
    note: str = ""


def layout_of(field: str, path: Path, config: TableConfig) -> Layout:
    """How a text file is laid out, by its first lines.

    Raises:
        DataError: its encoding is another, or its first line may be names or values.
        OSError: it cannot be read.

    """
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as file:
        start = file.read(BYTES)
    mark = next((name for bom, name in BOMS.items() if start.startswith(bom)), "utf-8")
    encoding = config.encoding or mark
    text = _decoded(field, path, start, encoding, config)
    line = text.lstrip("\r\n").split("\n", 1)[0]
    unquoted = "".join(line.split('"')[::2])  # a separator between quotes is part of a name
    separator = max(SEPARATORS, key=unquoted.count)
    arrow = "utf8" if encoding == "utf-8-sig" else encoding  # which passes over the mark by itself
    rows = _rows(text, separator, whole=len(start) < BYTES)
    if config.header == "names" or not rows or (config.header == "auto" and _names(field, path, rows)):
        return Layout(separator, arrow)
    names = tuple(f"column_{number}" for number in range(1, len(rows[0]) + 1))
    note = f"The first line of {path.name} has values and no names: its columns are column_1 to {names[-1]}."
    return Layout(separator, arrow, names, "" if config.header == "none" else note)


def other_encoding(field: str, path: Path, config: TableConfig, error: object) -> DataError:
    """A file that is in another encoding."""
    tried = config.encoding or "UTF-8"
    return DataError(
        field,
        str(path),
        f"is not in {tried} ({error}); write what it is in, such as data.table.encoding: cp1252 (Windows) or latin-1",
    )


def _decoded(field: str, path: Path, start: bytes, encoding: str, config: TableConfig) -> str:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start, final=len(start) < BYTES)
    except UnicodeError as error:
        raise other_encoding(field, path, config, error) from error
    if "\0" in text:
        raise other_encoding(field, path, config, "it holds zero bytes, as UTF-16 does: utf-16-le or utf-16-be")
    return text


def _rows(text: str, separator: str, *, whole: bool) -> list[list[str]]:
    """The first rows that are not empty, without the last, which may be cut off, unless it is the file's."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [row for row in islice(lines, ROWS + 1) if row]
    except csv.Error:  # a field that is too long for names
        return []
    return rows if whole and len(rows) <= ROWS else rows[:-1]


def _names(field: str, path: Path, rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has the columns' names.

    Raises:
        DataError: it may have names or values.

    """
    first, body = [value.strip() for value in rows[0]], rows[1:]
    said = [(place, value) for place, value in enumerate(first) if value not in MARKS]
    values = [value for _, value in said if _is_number(value) or DATE.fullmatch(value)]
    texts = [(place, value) for place, value in said if value not in values]
    # whether a text of the first row stands in its column once more
    again = [any(place < len(row) and row[place].strip() == value for row in body) for place, value in texts]
    repeated = bool(texts) and all(again)
    from_0, from_1 = (values == [str(number) for number in range(start, start + len(values))] for start in (0, 1))
    if not body or not said or not (values or repeated):
        return True
    if not values and rows[0] not in body:  # else a line of names may stand there twice
        return False
    if from_0 and len(values) >= COUNTED and not any(again):
        return True
    plainly = not texts or any(_is_number(value) and not value.isdigit() for value in values)
    if values and (repeated or (plainly and not (from_0 or from_1))):
        return False
    raise DataError(
        field,
        str(path),
        f"its first line, {', '.join(map(repr, first[:5]))}{', …' if len(first) > 5 else ''}, may be names or values: "
        "write data.table.header: names, or none",
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
