"""CSV files as programs write them: in any encoding, with any separator, a decimal comma, with names or without."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.data.tables.config import TableConfig
from tasks.data.tables.first_lines import Layout, layout_of
from tasks.data.tables.values import MARKS

BLOCK_BYTES = 4 << 20  # types are inferred from the first


def schema_of(field: str, path: Path, config: TableConfig) -> Any:
    """Its Arrow schema: numbers as its first megabytes have them, and texts for all else.

    Raises:
        DataError: its encoding is another, or its first line may be names or values.
        pyarrow.ArrowException: it cannot be read as a table.
        OSError: it cannot be read at all.

    """
    import pyarrow as pa
    from pyarrow import types

    with closing(_opened(path, layout_of(field, path, config))) as reader:
        fields = list(reader.schema)
    # dates are told from other texts by all of them, and not by the first
    number = (types.is_integer, types.is_floating, types.is_boolean, types.is_binary)
    kept = [each.type if any(is_(each.type) for is_ in number) else pa.string() for each in fields]
    return pa.schema([(each.name.strip(), kind) for each, kind in zip(fields, kept, strict=True)])


def batches_of(field: str, path: Path, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    """Record batches of some columns, of these Arrow types. Raises as `schema_of`."""
    layout = layout_of(field, path, config)
    with closing(_opened(path, layout)) as reader:
        names = {name.strip(): name for name in reader.schema.names}
    types = {names[name]: kind for name, kind in columns.items()}
    with closing(_opened(path, layout, types, list(types))) as reader:
        for batch in reader:
            yield batch.rename_columns(list(columns))


def _opened(path: Path, layout: Layout, types: Mapping[str, Any] | None = None, only: Sequence[str] = ()) -> Any:
    """A stream of record batches, with the decimal sign that leaves more numbers."""
    if layout.separator == ",":
        return _open(path, layout, ".", types, only)
    points, commas = (_texts(path, layout, point) for point in ".,")
    return _open(path, layout, "," if commas < points else ".", types, only)


def _open(
    path: Path, layout: Layout, point: str, types: Mapping[str, Any] | None = None, only: Sequence[str] = ()
) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        str(path),
        read_options=csv.ReadOptions(
            block_size=BLOCK_BYTES, encoding=layout.encoding, column_names=list(layout.names) or None
        ),
        parse_options=csv.ParseOptions(delimiter=layout.separator),
        convert_options=csv.ConvertOptions(
            column_types=types, include_columns=list(only) or None, decimal_point=point, null_values=list(MARKS)
        ),
    )


def _texts(path: Path, layout: Layout, point: str) -> int:
    """How many columns hold text, if numbers are written with this decimal sign."""
    from pyarrow import types

    with closing(_open(path, layout, point)) as reader:
        return sum(types.is_string(field.type) for field in reader.schema)
