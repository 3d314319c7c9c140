"""A table's rows: some columns as numbers, texts and dates, and the targets; without rows with gaps, if wanted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, records
from tasks.data.config import DataConfig
from tasks.data.source import column_missing
from tasks.data.tables.files import TableFile, batches_of, schema_of
from tasks.data.tables.slimline_columns import Column, Values, missing
from tasks.data.tables.values import is_text, numbers, plain, texts, values_of

LIST = "list the columns to use in data.input"
NUMERIC = ("regression", "multilabel")  # problems whose targets are numbers, and no names
NUMBERS = "name a column of numbers in data.target"


@dataclass(frozen=True)
class Target:
    """What is right for one output, in a table.

    name: what `data.heads` calls it; `ONE` where there is no other output.
    columns: where it is. numeric: whether it is numbers, and no names.
    """

    name: str
    columns: tuple[str, ...]
    numeric: bool


def columns_in(targets: Sequence[Target]) -> tuple[str, ...]:
    """The columns of all targets, each once."""
    return tuple(dict.fromkeys(name for target in targets for name in target.columns))


@dataclass(frozen=True)
class Rows:
    """Some rows of a file as they were read.

    values: each column's `(n,)`, in the columns' order.
    targets: labels `(n,)` as they stand, numbers `(n, targets)`, or none; of several outputs records of these.
    dropped: how many rows with gaps stood among them.
    beside: an Arrow array `(n,)` of the column that was asked for beside these.
    """

    file: TableFile
    values: list[Values]
    targets: np.ndarray | None
    dropped: int
    beside: Any = None

    def __len__(self) -> int:
        return len(self.values[0])


def rows_of(
    files: Sequence[TableFile],
    columns: Sequence[Column],
    targets: Sequence[Target],
    config: DataConfig,
    *,
    beside: str = "",
) -> Iterator[Rows]:
    """The rows of several files, one after the other; `beside` names a column more, which is handed on as it is.

    Raises:
        DataError: a column that is missing, that holds something else than before, or a target with gaps.

    """
    for file in files:
        schema = schema_of(file, config.table)
        names = [*dict.fromkeys((*(each.name for each in columns), *columns_in(targets), *filter(None, [beside])))]
        if absent := next((name for name in names if name not in schema.names), None):
            raise column_missing(file.field, f"{file.path}: {absent}", schema.names)
        labels = (*columns_in([target for target in targets if not target.numeric]), beside)
        categories = {column.name for column in columns if column.kind in ("one_hot", "ids")}
        types = {name: _read_as(schema.field(name).type, name in categories, name in labels) for name in names}
        for batch in batches_of(file, config.table, types):
            yield _rows(file, batch, columns, targets, config, beside)


def _read_as(kind: Any, category: bool, label: bool) -> Any:
    """What a text file's column is read as: a category as text, as 01 is not 1; whole numbers may become others."""
    import pyarrow as pa

    if category:
        return pa.string()
    return pa.float64() if pa.types.is_integer(kind) and not label else kind


def _rows(
    file: TableFile, batch: Any, columns: Sequence[Column], targets: Sequence[Target], config: DataConfig, beside: str
) -> Rows:
    import pyarrow as pa

    values = [_asked(file, column.name, lambda array, of=column: values_of(of, array), batch) for column in columns]
    read = [[_target(file, name, batch, numeric=target.numeric) for name in target.columns] for target in targets]
    gaps = [
        (name, np.isnan(each) if target.numeric else np.asarray(each.is_null(nan_is_null=True)))
        for target, of_target in zip(targets, read, strict=True)
        for name, each in zip(target.columns, of_target, strict=True)
    ]
    kept = np.ones(len(batch), bool)
    if config.table.missing == "drop":
        for gap in (*map(missing, values), *(gap for _, gap in gaps)):
            kept &= ~gap
    elif lacking := next((name for name, gap in gaps if gap.any()), None):
        raise gap_in(file, lacking, "drop such rows, data.table.missing: drop")
    y = {
        target.name: np.stack(each, axis=1)[kept] if target.numeric else _array(each[0].filter(pa.array(kept)))
        for target, each in zip(targets, read, strict=True)
    }
    whole = kept.all()
    rest = batch.column(beside).filter(pa.array(kept)) if beside else None
    return Rows(
        file,
        [each if whole else each[kept] for each in values],
        y[ONE] if ONE in y else records(y) if y else None,
        int(np.count_nonzero(~kept)),
        rest,
    )


def _target(file: TableFile, name: str, batch: Any, *, numeric: bool) -> Any:
    """A target's column: numbers `(n,)`, or labels as Arrow has them."""
    return _asked(file, name, numbers, batch, NUMBERS) if numeric else _labels(batch.column(name))


def _labels(values: Any) -> Any:
    """Labels as they stand; of texts without spaces around them, and null where there is none."""
    import pyarrow as pa

    values = plain(values)
    return pa.array(texts(values), pa.string()) if is_text(values.type) else values


def _array(labels: Any) -> np.ndarray:
    return np.asarray(labels.to_numpy(zero_copy_only=False))


def _asked(file: TableFile, name: str, read: Any, batch: Any, way: str = LIST) -> Values:
    import pyarrow as pa

    try:
        return np.asarray(read(batch.column(name)))
    except (ValueError, pa.ArrowException) as error:
        raise DataError("data.source", f"{file.path}: column {name!r}", f"{error}; correct it, or {way}") from error


def gap_in(file: TableFile, name: str, way: str) -> DataError:
    """A missing value where none may be."""
    return DataError("data.source", str(file.path), f"column {name!r} has missing values; {way}")
