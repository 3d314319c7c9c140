"""Columns beside inputs and targets: what group each example is of, what time it is from, and what it counts."""

import hashlib
import re
import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.scan import Scan
from tasks.data.source import Source
from tasks.data.splits import SPLITS, Digests, Membership, Split, rows_of
from tasks.data.statistics import Floats

Times = npt.NDArray[np.float64] | npt.NDArray[np.int64]
SLICES = 50  # that are shown at most
DATE = re.compile(r"\d{4}-\d\d-\d\d.*")  # what else NumPy reads as a date does not sort by time for sure


def groups_of(source: Source, config: DataConfig, scanned: Scan) -> dict[str, Digests]:
    """A number for each example's group `(rows,)`, by the group's name alone, for each part; none without `data.group`.

    Raises:
        DataError: no such column, an example without a group, or groups that are neither names nor whole numbers.

    """
    keys = {}
    for part, values in _columns(source, config, scanned, "group").items():
        names, place = np.unique(_names(values, "group", config.group, part), return_inverse=True)
        digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names]
        keys[part] = np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)[place]
    return keys


def times_of(source: Source, config: DataConfig, scanned: Scan) -> tuple[dict[str, Times], dict[str, np.ndarray]]:
    """When each example is from `(rows,)`, for each part: numbers that sort as the times do; none without `data.time`.

    Returns:
        Those numbers, and the values that they were made of.

    Raises:
        DataError: no such column, a missing time, or no times; or times of several kinds.

    """
    columns = _columns(source, config, scanned, "time")
    if len({values.dtype.kind in "biuf" for values in columns.values()}) > 1:
        raise DataError("data.time", config.time, "is a number in one part and a date in another; write them alike")
    return {part: _moments(values, config.time, part) for part, values in columns.items()}, columns


def slices_of(source: Source, config: DataConfig, scanned: Scan) -> dict[str, np.ndarray]:
    """The name of each example's slice `(rows,)`, for each part; none without `data.slice`.

    Raises:
        DataError: no such column, an example without a slice, or more slices than can be shown.

    """
    columns = _columns(source, config, scanned, "slice").items()
    slices = {part: _names(values, "slice", config.slice, part) for part, values in columns}
    count = len({name for names in slices.values() for name in np.unique(names)})
    if count > SLICES:
        raise DataError(
            "data.slice", config.slice, f"has {count} values, and a slice each; make at most {SLICES} of them"
        )
    return slices


def weights_of(source: Source, config: DataConfig, scanned: Scan) -> dict[str, Floats]:
    """What each example counts `(rows,)`, for each part: by `data.weight`, or as a function gives it beside examples.

    None where neither says it.

    Raises:
        DataError: no such column, or values that are missing, negative, or all zero; or only some parts have any.

    """
    columns = _columns(source, config, scanned, "weight")
    called = config.weight or "sample weights"
    if source.weights and not columns:
        given = {part: source.weights(part) for part in scanned.digests}
        columns = {part: values[: len(scanned.digests[part])] for part, values in given.items() if values is not None}
        if columns and len(columns) < len(given):
            lacking = ", ".join(part for part in given if part not in columns)
            raise DataError(
                "data.source", f"{config.source}: {lacking}", "has no sample weights, and others have; give all"
            )
    return {part: _weights(values, called, part) for part, values in columns.items()}


def _weights(values: np.ndarray, column: str, part: str) -> Floats:
    """Weights as numbers from 0, not all of them 0."""
    try:
        weights = values.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError("data.weight", f"{column}: {part}", f"a weight is a number ({error})") from error
    if np.isnan(weights).any():
        raise _gap("data.weight", column, part)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        span = f"{weights.min():g} to {weights.max():g}"
        raise DataError("data.weight", f"{column}: {part}: {span}", "weights are 0 or more, and not all 0")
    return weights


def _columns(source: Source, config: DataConfig, scanned: Scan, field: str) -> dict[str, np.ndarray]:
    """The column that a field names, as far as examples were read, for each part."""
    column: str = getattr(config, field)
    if not column:
        return {}
    if source.beside is None:
        raise DataError(f"data.{field}", column, "this source has no columns beside its examples; leave it empty")
    columns = {}
    for part, digests in scanned.digests.items():
        values = source.beside(part, f"data.{field}", column)
        if values.ndim != 1 or len(values) < len(digests) or (not config.limit and len(values) > len(digests)):
            value = f"{column}: {part}: shape {values.shape} for {len(digests)} examples"
            raise DataError(f"data.{field}", value, "give one value for each example")
        columns[part] = values[: len(digests)]
    return columns


def _names(values: np.ndarray, kind: str, column: str, part: str) -> np.ndarray:
    """The names of groups or slices, `(rows,)` texts."""
    field = f"data.{kind}"
    if values.dtype == object:
        if any(value is None or value != value or value == "" for value in values.tolist()):  # NaN is not itself
            raise _gap(field, column, part)
        values = np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values])
    elif values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    elif values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise _gap(field, column, part)
        if (values != np.floor(values)).any():
            raise DataError(field, column, f"holds fractions; a {kind} is a name or a whole number")
        values = values.astype(np.int64)
    elif values.dtype.kind == "M" and np.isnat(values).any():
        raise _gap(field, column, part)
    texts = values.astype(str)
    if (texts == "").any():
        raise _gap(field, column, part)
    return texts


def _moments(values: np.ndarray, column: str, part: str) -> Times:
    """Numbers that sort as these times do."""
    if values.dtype.kind in "OSU":
        texts = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
        if any(value is None or value != value or value == "" for value in texts):
            raise _gap("data.time", column, part)
        if wrong := next((each for each in texts if not DATE.fullmatch(str(each))), None):
            raise _no_time(column, part, wrong)
        values = np.array(list(map(str, texts)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy passes over a time zone with a warning
            try:
                values = values.astype("datetime64[us]")
            except (ValueError, UserWarning, DeprecationWarning) as error:
                raise _no_time(column, part, str(error)) from error
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise _gap("data.time", column, part)
        return values.astype("datetime64[us]").astype(np.int64)
    if values.dtype.kind not in "biuf":
        raise _no_time(column, part, str(values.dtype))
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise _gap("data.time", column, part)
    return numbers


def _gap(field: str, column: str, part: str) -> DataError:
    return DataError(field, f"{column}: {part}", "has examples without a value; fill or drop them")


def _no_time(column: str, part: str, value: str) -> DataError:
    return DataError(
        "data.time",
        f"{column}: {part}: {value}",
        "a time is a number, or a date such as 2026-03-31 or 2026-03-31T12:00",
    )


def numbered_groups(keys: Mapping[str, Digests]) -> dict[str, npt.NDArray[np.int64]]:
    """The groups' keys as numbers from 0, the same in every part."""
    _, numbers = np.unique(np.concatenate(list(keys.values())), return_inverse=True)
    ends = np.cumsum([len(values) for values in keys.values()])[:-1]
    return dict(zip(keys, np.split(numbers.astype(np.int64), ends), strict=True))


def apart(
    config: DataConfig,
    members: Membership,
    groups: Mapping[Split, np.ndarray],
    kin: int,
    moments: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    """What a person should know of splits by group and by time, in sentences.

    Args:
        config: names the columns.
        members: the rows of each split.
        groups: of each split's examples; none without `data.group`.
        kin: examples that were left out because their group stands in another split.
        moments: of each part's examples, as they were written; none without `data.time`.

    """
    notes = []
    if groups:
        counts = ", ".join(f"{len(np.unique(groups[split])):,} in {split}" for split in SPLITS)
        notes.append(f"No group of {config.group!r} stands in two splits: {counts}.")
    if kin:
        notes.append(f"{kin:,} examples are left out, as others of their groups stand in test or validation.")
    if moments:
        ordered = ((split, np.sort(span)) for split, span in rows_of(members, moments).items())
        spans = (f"{split} {span[0]} to {span[-1]}" for split, span in ordered)
        notes.append(f"Splits by {config.time!r}: {', '.join(spans)}.")
    return tuple(notes)
