"""CSV files as programs write them: separated by commas, semicolons or tabs, with a decimal point or comma."""

from contextlib import closing
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv")
SEPARATORS = ",;\t"
HEADER_BYTES = 1 << 20  # of the first line: a table has no more names than fit
BLOCK_BYTES = 4 << 20  # types are inferred from the first


def open_csv(path: Path, types: dict[str, Any]) -> Any:
    """A CSV as a stream of Arrow record batches; `types` are Arrow types by column, the others are inferred.

    Where numbers stand, an empty field, NaN, NULL or n/a is a missing value; where text stands, it is text.

    Raises:
        pyarrow.ArrowException: it cannot be read as a table.
        OSError: it cannot be read at all.

    """
    separator = separator_of(path)
    if separator == ",":
        return _opened(path, types, separator, ".")
    points, commas = (_texts(path, separator, point) for point in ".,")
    return _opened(path, types, separator, "," if commas < points else ".")


def separator_of(path: Path) -> str:
    """What separates the columns: of the characters that do, the one that stands most often in the first line."""
    with path.open("rb") as file:
        header = file.readline(HEADER_BYTES).decode("utf-8", "replace")
    unquoted = "".join(header.split('"')[::2])  # a separator between quotes is part of a name
    return max(SEPARATORS, key=unquoted.count)


def _opened(path: Path, types: dict[str, Any], separator: str, point: str) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=separator),
        convert_options=csv.ConvertOptions(column_types=types, decimal_point=point),
    )


def _texts(path: Path, separator: str, point: str) -> int:
    """How many columns hold text, if numbers are written with this decimal point."""
    from pyarrow import types

    with closing(_opened(path, {}, separator, point)) as reader:
        return sum(types.is_string(field.type) for field in reader.schema)
