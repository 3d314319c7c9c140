"""What a table's columns are to a model: seen in their types, and learned from the rows that are trained on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.tables.config import TableConfig
from tasks.data.tables.files import TableFile, batches_of, is_text_file, schema_of
from tasks.data.tables.first_lines import DATE
from tasks.data.tables.rows import LIST, Rows
from tasks.data.tables.slimline_columns import PARTS, Column, Values, missing, parts_of, words_of
from tasks.data.tables.values import CODE, dates, is_number, is_text, numbers, plain
from tasks.data.tables.vocabulary import words_in

# times that the training rows have a word with an id of its own: of the others the model learns what any other word is
OFTEN = 2
MOST_READ = 0.95  # share of the training rows' texts that are read to their end
ROWS_EACH = 2  # that a category has at least, on average: else the column names rows, and nothing that others share
FILLS = ("mean", "median", "zero", "indicator")


@dataclass
class Seen:
    """What was seen of one column. sums, least, most: of the numbers that it is made of; `values` for a median.

    counts: of categories, or of words; lengths: of texts, in words.
    """

    gaps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    sums: Any = 0.0
    least: Any = np.inf
    most: Any = -np.inf
    values: list[np.ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Learned:
    """Columns, and what they were learned from."""

    columns: tuple[Column, ...]
    seen: tuple[Seen, ...]
    rows: int
    dropped: int


def kinds_of(files: Sequence[TableFile], names: Sequence[str], config: DataConfig) -> tuple[Column, ...]:
    """The columns by their kinds. Texts are numbers or dates if all of them are, else categories.

    Raises:
        DataError: a column of another type; a name in `data.table.categorical` that is none of these.

    """
    table, schema = config.table, schema_of(files[0], config.table)
    category = partial(Column, kind=table.categories)
    codes = [name.strip() for name in table.categorical.split(",") if name.strip()]
    if unknown := [name for name in codes if name not in names]:
        raise DataError("data.table.categorical", ", ".join(unknown), f"none of the columns in use: {', '.join(names)}")
    kinds: dict[str, Column] = {}
    check_texts(table, schema, names)
    for name in names:
        kind = plain_type(schema.field(name).type)
        if name == table.texts:
            kinds[name] = Column(name, "words")
            continue
        if name in codes and str(kind) != "bool" and (is_number(kind) or is_text(kind)):
            kinds[name] = category(name)
        elif is_number(kind):
            kinds[name] = Column(name)
        elif str(kind).startswith(("date", "timestamp")):
            kinds[name] = Column(name, "date")
        elif not is_text(kind):
            raise no_values(files[0], name, kind)
    inferred = _inferred(files, [name for name in names if name not in kinds], config)
    return tuple(kinds.get(name) or inferred[name] or category(name) for name in names)


def check_texts(table: TableConfig, schema: Any, names: Sequence[str]) -> None:
    """Refuses a column of texts that is not there, holds none, or is not the only input.

    Raises:
        DataError: says which.

    """
    texts = table.texts
    if not texts:
        return
    if texts not in names:
        raise DataError("data.table.texts", texts, f"none of the columns in use: {', '.join(names)}")
    if not is_text(kind := plain_type(schema.field(texts).type)):
        raise DataError("data.table.texts", texts, f"holds {kind}, and no texts; leave data.table.texts out")
    if len(names) > 1:
        raise DataError(
            "data.table.texts",
            texts,
            f"the ids of words and other columns are not one input: write data.input: {texts}, or leave "
            "data.table.texts out",
        )


def plain_type(kind: Any) -> Any:
    """An Arrow type without its dictionary."""
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind


def no_values(file: TableFile, name: str, kind: Any) -> DataError:
    """A column whose type is neither of numbers nor of texts nor of dates."""
    if str(kind) == "binary" and is_text_file(file):
        return DataError(
            file.field,
            f"{file.path}: column {name!r}",
            "holds bytes that are no text in UTF-8; write what the file is in, such as data.table.encoding: cp1252, or "
            + LIST,
        )
    return DataError("data.input", name, f"holds {kind}, and neither numbers nor texts nor dates; {LIST}")


def _inferred(files: Sequence[TableFile], names: Sequence[str], config: DataConfig) -> dict[str, Column | None]:
    """Columns of texts that are numbers or dates, every one of them; nothing for others."""
    import pyarrow as pa

    written = list(dict.fromkeys([config.table.date_format, ""]))
    tried = [Column(""), *(Column("", "date", format=each) for each in written)]
    left = {name: list(tried) for name in names}
    rows = 0
    for file in files if names else ():
        for batch in batches_of(file, config.table, dict.fromkeys(names, pa.string())):
            if config.limit and rows >= config.limit and config.table.missing != "drop":
                break
            rows += len(batch)
            for name, columns in left.items():
                values = plain(batch.column(name))
                columns[:] = [column for column in columns if _reads(column, values)]
    inferred = {name: replace(columns[0], name=name) if columns else None for name, columns in left.items()}
    if config.table.date_format and not any(column and column.format for column in inferred.values()):
        raise DataError(
            "data.table.date_format",
            config.table.date_format,
            f"no column is written so throughout, of those with texts: {', '.join(names) or 'none'}",
        )
    return inferred


def _reads(column: Column, values: Any) -> bool:
    """Whether these texts are all what the column is."""
    import pyarrow.compute as pc

    try:
        if column.kind == "date":
            dates(values, column.format)
            return True
        numbers(values)
    except ValueError:
        return False
    return not (is_text(values.type) and pc.any(pc.match_substring_regex(values, CODE)).as_py())


def learned(kinds: Sequence[Column], rows: Iterable[Rows], config: DataConfig) -> Learned:
    """What the columns have in these rows: categories, parts of dates that vary, and what fills gaps.

    Raises:
        DataError: a column without a value where gaps are to be filled.

    """
    table = config.table
    seen = tuple(Seen() for _ in kinds)
    total = dropped = 0
    for chunk in rows:
        total, dropped = total + len(chunk), dropped + chunk.dropped
        for column, of, values in zip(kinds, seen, chunk.values, strict=True):
            _look(column, of, values, keep=table.missing == "median")
    columns = tuple(
        _filled(_shaped(column, of, table), of, total, config) for column, of in zip(kinds, seen, strict=True)
    )
    return Learned(columns, seen, total, dropped)


def _look(column: Column, seen: Seen, values: Values, *, keep: bool) -> None:
    gaps = missing(values)
    there = values[~gaps] if gaps.any() else values
    seen.gaps += int(np.count_nonzero(gaps))
    if column.kind in ("one_hot", "ids"):
        seen.counts.update(there.tolist())
        return
    if column.kind == "words":
        for words in map(words_of, there):
            seen.counts.update(words)
            seen.lengths.append(len(words))
        return
    figures = parts_of(there, PARTS) if column.kind == "date" else there[:, None]
    if len(figures):
        seen.sums = seen.sums + figures.sum(axis=0)
        seen.least = np.minimum(seen.least, figures.min(axis=0))
        seen.most = np.maximum(seen.most, figures.max(axis=0))
        if keep:
            seen.values.append(figures)


def _shaped(column: Column, seen: Seen, table: TableConfig) -> Column:
    """With its categories, its words, or the parts that vary."""
    if column.kind == "words":
        common = sorted((-count, word) for word, count in seen.counts.items() if count >= OFTEN)[: table.max_words]
        words = words_in(table.vocabulary) if table.vocabulary else tuple(word for _, word in common)
        length = table.text_length or int(np.quantile(seen.lengths or [0], MOST_READ, method="higher"))
        return replace(column, categories=words, length=length)
    if column.kind == "date":
        varies = np.broadcast_to(seen.least < seen.most, len(PARTS))
        return replace(column, parts=tuple(part for part, moves in zip(PARTS, varies, strict=True) if moves))
    return replace(column, categories=tuple(sorted(seen.counts)))


def _filled(column: Column, seen: Seen, rows: int, config: DataConfig) -> Column:
    """With what fills its gaps, if something is to."""
    rule = config.table.missing
    if rule not in FILLS:
        return column
    flag = rule == "indicator" and seen.gaps > 0 and column.kind != "words"  # a text without words says so itself
    if column.kind in ("one_hot", "ids", "words") or rule == "zero":
        return replace(column, flag=flag, fill=(0.0,) * len(column.inputs))
    if seen.gaps == rows:
        raise DataError(
            "data.table.missing", rule, f"column {column.name!r} has no value in a row that is trained on; {LIST}"
        )
    figures = np.median(np.concatenate(seen.values), axis=0) if rule == "median" else seen.sums / (rows - seen.gaps)
    if column.kind == "date":
        figures = figures[[PARTS.index(part) for part in column.parts]]
    return replace(column, flag=flag, fill=tuple(map(float, figures)))


def check_categories(found: Learned, config: DataConfig, names: Sequence[str]) -> None:
    """Refuses columns whose texts are no categories.

    Raises:
        DataError: names them, and the columns that are left.

    """
    of = {
        column.name: seen.counts
        for column, seen in zip(found.columns, found.seen, strict=True)
        if column.kind in ("one_hot", "ids")
    }
    for name, counts in of.items():
        if counts and all(DATE.fullmatch(text) for text in counts):
            raise DataError(
                "data.input",
                name,
                f"looks like dates ({_few(counts)}), and not all are ISO 8601 in one form: write how they are written, "
                f"such as data.table.date_format: '%d.%m.%Y', or {LIST}",
            )
    apart = [name for name, counts in of.items() if ROWS_EACH * len(counts) > counts.total()]
    many = [
        name
        for name, counts in of.items()
        if name not in apart and config.table.categories == "one_hot" and len(counts) > config.table.max_categories
    ]
    if not apart and not many:
        return
    left = ", ".join(name for name in names if name not in (*apart, *many))
    list_them = f"list the columns to use, data.input: {left or 'of which there is none'}"
    if apart:
        each = "; ".join(
            f"{name}: {len(of[name]):,} texts in {of[name].total():,} rows ({_few(of[name])})" for name in apart
        )
        raise DataError(
            "data.input",
            each,
            f"texts that hardly two rows share tell nothing of new ones: {list_them}; or, where their words count, "
            f"write data.input and data.table.texts: {apart[0]}",
        )
    most = max(len(of[name]) for name in many)
    each = "; ".join(f"{name}: {len(of[name]):,} categories ({_few(of[name])})" for name in many)
    raise DataError(
        "data.input",
        each,
        f"more than data.table.max_categories, {config.table.max_categories}: write data.table.max_categories: {most}, "
        f"or data.table.categories: ids, or {list_them}",
    )


def _few(counts: Counter[str]) -> str:
    return ", ".join(repr(text) for text, _ in counts.most_common(3)) + (", …" if len(counts) > 3 else "")
