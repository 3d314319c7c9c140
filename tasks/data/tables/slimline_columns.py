"""Which numbers a model gets of a table's columns: categories, words, parts of dates, and what fills gaps.

A copy of this file goes with every version whose table has more than numbers: it needs nothing but NumPy, so that rows
become the same numbers there as in training.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np

Kind = Literal["number", "one_hot", "ids", "date", "words"]
# One column's values `(n,)`: numbers as float64, NaN where one is missing; categories and texts of words as
# texts, None where one is missing; dates as datetime64[us] in UTC, NaT where one is missing.
Values = np.ndarray

NO_WORD, OTHER_WORD = 0, 1  # ids: behind a text's end, and of a word that is not among the known ones
PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")  # what Keras' TextVectorization takes out

PARTS = ("year", "month", "day", "weekday", "hour")  # of a date; weekday 0 is Monday


@dataclass(frozen=True)
class Column:
    """One column of a table, and what it becomes.

    categories: of `one_hot` and `ids`, in their order; of `words` the known words, the most common first.
    parts: of a date, those of `PARTS` that vary.
    fill: what stands where a value is missing, a number for each input; None where missing values are refused.
    flag: whether there is an input more, which is 1 where a value is missing.
    format: of a date that is written as text, as in strptime; empty is ISO 8601.
    length: of `words`, how many of a text's first words are inputs.
    """

    name: str
    kind: Kind = "number"
    categories: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    fill: tuple[float, ...] | None = None
    flag: bool = False
    format: str = ""
    length: int = 0

    @property
    def plain(self) -> bool:
        """Whether it is a number that stays what it is."""
        return self.kind == "number" and self.fill is None

    @property
    def ids(self) -> int:
        """How many ids its words have, from 0; 0 if it has none."""
        return OTHER_WORD + 1 + len(self.categories) if self.kind == "words" else 0

    @cached_property  # a model of thousands of words is asked for one text at a time
    def places(self) -> dict[str, int]:
        """Each category's, or known word's, number in their order, from 1."""
        return {category: number for number, category in enumerate(self.categories, start=1)}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in their order."""
        names = {
            "number": (self.name,),
            "one_hot": tuple(f"{self.name}={category}" for category in self.categories),
            "ids": (f"{self.name}.id",),
            "date": tuple(f"{self.name}.{part}" for part in self.parts),
            "words": tuple(f"{self.name}.{place}" for place in range(1, self.length + 1)),
        }[self.kind]
        return (*names, f"{self.name}.missing") if self.flag else names


def as_json(column: Column) -> dict[str, Any]:
    """What is not as in a plain number's column."""
    usual = {field.name: field.default for field in fields(Column)}
    return {name: value for name, value in asdict(column).items() if name == "name" or value != usual[name]}


def from_json(kept: Mapping[str, Any]) -> Column:
    """A column that `as_json` wrote."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
    }
    return Column(**settings)


def encoded(columns: Sequence[Mapping[str, Any]], rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """What a model takes of rows: float32 `(n, inputs)`.

    Args:
        columns: as `as_json` wrote them.
        rows: each column's values by its name: numbers, texts, dates as texts or datetimes; None where one is missing.

    Raises:
        KeyError: a column that is not there.
        ValueError: another kind of value; one that is missing where training had none.

    """
    read = {"number": _as_numbers, "date": _as_dates}
    taken = [
        (column, read.get(column.kind, _as_texts)(column, rows[column.name])) for column in map(from_json, columns)
    ]
    return np.concatenate([inputs_of(column, values) for column, values in taken], axis=1).astype(np.float32)


def _as_numbers(_: Column, values: Sequence[Any]) -> Values:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _as_texts(_: Column, values: Sequence[Any]) -> Values:
    return np.array([None if value is None else text_of(value) for value in values], object)


def text_of(value: Any) -> str | None:
    """A category or a text, None where it is empty; whole numbers and truth as Arrow writes them."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() or None


def _as_dates(column: Column, values: Sequence[Any]) -> Values:
    def moment(value: Any) -> Any:
        if isinstance(value, str):
            value = datetime.strptime(value, column.format) if column.format else datetime.fromisoformat(value)
        zoned = isinstance(value, datetime) and value.tzinfo is not None
        return value.astimezone(UTC).replace(tzinfo=None) if zoned else value

    return np.array([None if value is None else moment(value) for value in values], "datetime64[us]")


def missing(values: Values) -> np.ndarray:
    """Which values are: `(n,)` booleans."""
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.asarray(values == np.array(None), bool)


def words_of(text: str) -> list[str]:
    """A text's words: small letters without punctuation, as Keras' TextVectorization has them (and of any language)."""
    return PUNCTUATION.sub("", text.lower()).split()


def unseen(column: Column, values: Values) -> np.ndarray:
    """Which values are categories that the column had not, or texts of words that it had not: `(n,)` booleans."""
    known = column.places
    if column.kind == "words":
        return np.array([text is not None and known.keys().isdisjoint(words_of(text)) for text in values], bool)
    return np.array([value is not None and value not in known for value in values], bool)


def inputs_of(column: Column, values: Values) -> np.ndarray:
    """A column's inputs, float64 `(n, inputs)`.

    Raises:
        ValueError: a missing value where none is filled; infinity, also in float32 only.

    """
    gaps = missing(values)
    if gaps.any() and column.fill is None:
        raise ValueError(f"column {column.name!r} has missing values")
    numbers = _numbers(column, values)
    if column.fill is not None:
        numbers[gaps] = column.fill
    with np.errstate(over="ignore"):
        if not np.isfinite(numbers.astype(np.float32)).all():
            raise ValueError(f"column {column.name!r} has infinite values, or such as float32 cannot hold")
    return np.column_stack([numbers, gaps]) if column.flag else numbers


def _numbers(column: Column, values: Values) -> np.ndarray:
    if column.kind == "number":
        return np.array(values, np.float64)[:, None]
    if column.kind == "date":
        return parts_of(values, column.parts)
    if column.kind == "words":
        return _word_ids(column, values)
    ids = np.array([column.places.get(value, 0) for value in values], np.float64)[:, None]
    return ids if column.kind == "ids" else (ids == np.arange(1, len(column.places) + 1)).astype(np.float64)


def _word_ids(column: Column, values: Values) -> np.ndarray:
    """The ids of each text's first words `(n, length)`."""
    ids = np.full((len(values), column.length), NO_WORD, np.float64)
    for row, text in zip(ids, values, strict=True):
        words = [] if text is None else words_of(text)[: column.length]
        row[: len(words)] = [OTHER_WORD + column.places.get(word, 0) for word in words]
    return ids


def parts_of(moments: Values, parts: tuple[str, ...]) -> np.ndarray:
    """Parts of dates `(n,)` as float64 `(n, parts)`; whatever where there is no date."""
    days, months, years = (moments.astype(f"datetime64[{unit}]") for unit in "DMY")
    of = {
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (days - months).astype(np.int64) + 1,
        "weekday": (days.astype(np.int64) + 3) % 7,  # the epoch was a Thursday
        "hour": (moments - days).astype("timedelta64[h]").astype(np.int64),
    }
    return np.array([of[part] for part in parts], np.float64).reshape(len(parts), len(moments)).T
