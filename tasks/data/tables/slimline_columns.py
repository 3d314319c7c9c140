"""Which numbers a model gets of a table's columns: categories, parts of dates, and what fills gaps.

A copy of this file goes with every version whose table has more than numbers: it needs nothing but NumPy, so that rows
become the same numbers there as in training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

Kind = Literal["number", "one_hot", "ids", "date"]
# One column's values `(n,)`: numbers as float64, NaN where one is missing; categories as texts, None where one is
# missing; dates as datetime64[us] in UTC, NaT where one is missing.
Values = np.ndarray

PARTS = ("year", "month", "day", "weekday", "hour")  # of a date; weekday 0 is Monday


@dataclass(frozen=True)
class Column:
    """One column of a table, and what it becomes.

    categories: of `one_hot` and `ids`, in their order.
    parts: of a date, those of `PARTS` that vary.
    fill: what stands where a value is missing, a number for each input; None where missing values are refused.
    flag: whether there is an input more, which is 1 where a value is missing.
    format: of a date that is written as text, as in strptime; empty is ISO 8601.
    """

    name: str
    kind: Kind = "number"
    categories: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    fill: tuple[float, ...] | None = None
    flag: bool = False
    format: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is a number that stays what it is."""
        return self.kind == "number" and self.fill is None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in their order."""
        names = {
            "number": (self.name,),
            "one_hot": tuple(f"{self.name}={category}" for category in self.categories),
            "ids": (f"{self.name}.id",),
            "date": tuple(f"{self.name}.{part}" for part in self.parts),
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


def missing(values: Values) -> np.ndarray:
    """Which values are: `(n,)` booleans."""
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.asarray(values == np.array(None), bool)


def unseen(column: Column, values: Values) -> np.ndarray:
    """Which values are categories that the column had not: `(n,)` booleans."""
    known = {None, *column.categories}
    return np.array([value not in known for value in values], bool)


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
    place = {category: number for number, category in enumerate(column.categories, start=1)}
    ids = np.array([place.get(value, 0) for value in values], np.float64)[:, None]
    return ids if column.kind == "ids" else (ids == np.arange(1, len(place) + 1)).astype(np.float64)


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
