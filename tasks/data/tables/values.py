"""What a table's columns hold, of whatever type a file has them, as one of three: numbers, texts and dates."""

from typing import Any

import numpy as np

from tasks.data.tables.slimline_columns import Column, Values

# What stands for a missing value among numbers and dates; among other texts such words may mean something (NA is
# Namibia), and only an empty one is missing. pandas' own, and what other programs write.
MARKS = (
    *("", "?", "-", "--", ".", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "#N/A N/A", "NaN", "nan", "-nan", "-NaN"),
    *("NULL", "Null", "null", "None", "none", "NONE", "nil", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN"),
)
CODE = r"^\s*[+-]?0[0-9]"  # a number that begins with a zero names something: a postcode, an article


def numbers(values: Any) -> Values:
    """An Arrow array as float64 `(n,)`, NaN where a value is missing.

    Raises:
        ValueError: it holds none.

    """
    import pyarrow as pa
    from pyarrow import types

    values = plain(values)
    kind = values.type
    if types.is_string(kind):
        values = marked(values)
    elif not is_number(kind):
        raise ValueError(f"holds {kind}, not numbers")
    try:
        return np.array(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowInvalid as error:
        raise ValueError(f"holds text among its numbers ({error})") from error


def texts(values: Any) -> Values:
    """An Arrow array as texts `(n,)` without spaces around them, None where a value is missing or empty."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    values = plain(values)
    if not (types.is_string(values.type) or is_number(values.type)):
        raise ValueError(f"holds {values.type}, not texts")
    trimmed = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return np.array(pc.if_else(pc.equal(trimmed, ""), None, trimmed).to_numpy(zero_copy_only=False), object)


def dates(values: Any, written: str = "") -> Values:
    """An Arrow array as datetime64[us] `(n,)` in UTC, NaT where a value is missing.

    Args:
        values: dates or times, or texts of them.
        written: how, as in strptime; empty is ISO 8601.

    Raises:
        ValueError: it holds others.

    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    values = plain(values)
    kind = values.type
    try:
        if types.is_string(kind):
            values = marked(values)
            if written:
                values = pc.strptime(values, format=written, unit="us")
            else:
                zoned = pc.any(pc.match_substring_regex(values, r"(Z|[+-]\d\d:?\d\d)$")).as_py()
                values = values.cast(pa.timestamp("us", "UTC" if zoned else None))
        elif not (types.is_date(kind) or types.is_timestamp(kind)):
            raise ValueError(f"holds {kind}, not dates")
        moments = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
    except pa.ArrowInvalid as error:
        raise ValueError(f"holds other text among its dates ({error})") from error
    return np.array(moments.to_numpy(zero_copy_only=False), "datetime64[us]")


def values_of(column: Column, values: Any) -> Values:
    """An Arrow array as what the column was."""
    if column.kind == "number":
        return numbers(values)
    return dates(values, column.format) if column.kind == "date" else texts(values)


def plain(values: Any) -> Any:
    """An Arrow array without a dictionary, and of one type of text."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_large_string(values.type) or types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def marked(values: Any) -> Any:
    """Texts without spaces around them, null where `MARKS` stand."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(trimmed, pa.array(MARKS)), None, trimmed)


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is one of numbers, or true and false."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of texts."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
