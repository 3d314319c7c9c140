"""Notes on how a table's columns were read: a line each."""

from collections.abc import Iterable, Sequence

import numpy as np

from tasks.data.config import DataConfig
from tasks.data.tables.learning import Learned, Seen
from tasks.data.tables.rows import Rows
from tasks.data.tables.slimline_columns import Column, missing, unseen

FEW = 5  # categories that are written out
RULES = {"mean": "the mean", "indicator": "the mean", "median": "the median", "zero": "zero"}


def notes_of(found: Learned, whole: Learned, config: DataConfig) -> list[str]:
    """On columns that are learned from some rows; `whole` is what was learned from all of them."""
    notes = []
    if found.dropped:
        count = whole.rows + whole.dropped
        notes.append(f"Rows with missing values are left out: {whole.dropped:,} of {count:,}.")
    for column, seen, all_seen in zip(found.columns, found.seen, whole.seen, strict=True):
        if column.kind in ("one_hot", "ids"):
            notes.append(_on_categories(column))
            if lost := set(all_seen.counts) - set(column.categories):
                rows = sum(all_seen.counts[text] for text in lost)
                notes.append(
                    f"Column `{column.name}`: {_count(rows, 'row')} of validation and test have one of "
                    f"{_count(len(lost), 'category', 'categories')} that no training row has."
                )
        elif column.kind == "date":
            notes.append(_on_date(column))
        elif column.kind == "words":
            notes.append(_on_words(column, seen))
        if seen.gaps and column.inputs and column.fill is not None:
            notes.append(_on_gaps(column, seen, found.rows, config))
    return notes


def notes_of_new(columns: Sequence[Column], rows: Iterable[Rows], part: str = "") -> list[str]:
    """On rows that nothing is learned from, new ones or a part's: what is missing, and which categories are new."""
    gaps, new, dropped, total = np.zeros(len(columns), int), np.zeros(len(columns), int), 0, 0
    examples: dict[str, str] = {}
    for chunk in rows:
        dropped, total = dropped + chunk.dropped, total + len(chunk) + chunk.dropped
        for place, (column, values) in enumerate(zip(columns, chunk.values, strict=True)):
            gaps[place] += np.count_nonzero(missing(values))
            if column.kind in ("one_hot", "ids", "words"):
                others = unseen(column, values)
                new[place] += np.count_nonzero(others)
                if others.any():
                    examples.setdefault(column.name, str(values[others][0]))
    of = f" of {part}" if part else ""
    notes = [f"Rows{of} with missing values are left out: {dropped:,} of {total:,}."] if dropped else []
    for column, lacking, other in zip(columns, gaps, new, strict=True):
        if lacking and column.inputs and column.fill is not None:
            notes.append(f"Column `{column.name}` lacks {lacking:,} of {total:,} values{of}, filled as in training.")
        if other and column.kind == "words":
            notes.append(
                f"Column `{column.name}`: {other:,} of {total:,} texts{of} have no word that the training rows have, "
                f"such as {examples[column.name]!r}."
            )
        elif other:
            notes.append(
                f"Column `{column.name}`: {other:,} of {total:,} values{of} are categories that no training row has, "
                f"such as {examples[column.name]!r}: {_nothing(column)}."
            )
    return notes


def _on_categories(column: Column) -> str:
    names = _examples(column)
    count = _count(len(column.categories), "category", "categories")
    if column.kind == "ids":
        return f"Column `{column.name}` has {count}, numbered from 1 in this order: {names}. 0 is any other."
    return f"Column `{column.name}` has {count}, an input each: {names}."


def _on_words(column: Column, seen: Seen) -> str:
    longer = sum(length > column.length for length in seen.lengths)
    return (
        f"Column `{column.name}` becomes the ids of its first {_count(column.length, 'word')}, of "
        f"{_count(len(column.categories), 'known word')}: {_examples(column)}. 1 is any other word, 0 none. "
        f"{_count(longer, 'training text')} of {len(seen.lengths):,} {'is' if longer == 1 else 'are'} longer."
    )


def _on_date(column: Column) -> str:
    if not column.parts:
        return f"Column `{column.name}` is the same date in every training row: it is left out."
    said = ", ".join(column.parts).replace("weekday", "weekday (Monday is 0)").replace("hour", "hour (UTC)")
    return f"Column `{column.name}` is a date, and becomes numbers: {said}."


def _on_gaps(column: Column, seen: Seen, rows: int, config: DataConfig) -> str:
    what = f"Column `{column.name}` lacks {seen.gaps:,} of {rows:,} values"
    flag = f", and `{column.inputs[-1]}` is 1 there" if column.flag else ""
    if column.kind in ("one_hot", "ids"):
        return f"{what}: {_nothing(column)}{flag}."
    if column.kind == "words":
        return f"{what}: they are texts without a word."
    rule = RULES[config.table.missing]
    figure = f", {column.fill[0]:.6g}," if column.fill and column.kind == "number" and rule != "zero" else ""
    return f"{what}: {rule}{figure} stands there{flag}."


def _nothing(column: Column) -> str:
    return "its number is 0 there" if column.kind == "ids" else "none of its inputs is 1 there"


def _examples(column: Column) -> str:
    return ", ".join(column.categories[:FEW]) + (", …" if len(column.categories) > FEW else "")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
