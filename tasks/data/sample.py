"""Samples: which examples are looked at where not all are, decided by content, so that no order of a source matters."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tasks.data.splits import Digests, scrambled

Rows = npt.NDArray[np.int64]
Pair = tuple[np.ndarray, np.ndarray]

SEED = 1  # of all samples: splits are drawn with others, and a sample is to depend on nothing but the examples

DRAWN = "drawn by content, the same ones each time and in whatever order the source has them"


def drawn_order(contents: Digests, strata: npt.NDArray[np.int64]) -> Rows:
    """All rows in an order of which every beginning is a sample: each stratum has its share of it, to within one row.

    Each row is as likely as any other to be among the first n, so that a mean over these is that over all. Which ones
    they are depends on what all rows hold, and not on how they lie; rows of the same content count each by itself.

    Args:
        contents: `(rows,)`: equal where the content is.
        strata: `(rows,)`: the class of each row, or zeros.

    """
    keys = scrambled(contents + _occurrences(contents) * np.uint64(0xD1342543DE82EF95), SEED)
    rows = np.lexsort((keys, strata))
    _, first, sizes = np.unique(strata[rows], return_index=True, return_counts=True)
    # Systematic sampling: a stratum's rows lie evenly spread over 0 to 1, from a start that is drawn for each.
    starts = scrambled(keys[rows[first]], SEED) / 2.0**64
    places = (np.arange(len(rows)) - np.repeat(first, sizes) + np.repeat(starts, sizes)) / np.repeat(sizes, sizes)
    order: Rows = rows[np.lexsort((keys[rows], places))]
    return order


def _occurrences(contents: Digests) -> Digests:
    """How many rows of the same content lie before each row."""
    rows = np.argsort(contents, kind="stable")
    _, first, sizes = np.unique(contents[rows], return_index=True, return_counts=True)
    counts = np.empty(len(rows), np.uint64)
    counts[rows] = np.arange(len(rows)) - np.repeat(first, sizes)
    return counts


def reservoir(chunks: Iterable[Pair], count: int) -> tuple[Pair | None, int]:
    """At most so many examples, drawn from a stream whose length only its end tells, each as likely as any other.

    Vitter 1985, "Random sampling with a reservoir", algorithm R. No more of the stream is kept than the sample.

    Args:
        chunks: inputs `(n, …)` with their targets `(n, …)`.
        count: how many are kept.

    Returns:
        Inputs and targets of those, none where there were none, and how many examples there were.

    """
    draws = np.random.default_rng(SEED)
    waiting: list[Pair] = []  # what was read before there were enough
    pool: list[np.ndarray] = []
    seen = 0
    for pair in chunks:
        free = max(min(count - seen, len(pair[0])), 0)
        if free:
            waiting.append((pair[0][:free], pair[1][:free]))
        if free < len(pair[0]):
            if not pool:
                pool = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
                waiting.clear()
            places = draws.integers(0, np.arange(seen + free, seen + len(pair[0])) + 1)
            taken = places < count
            # names of classes may be longer than all before
            kinds = [np.promote_types(kept.dtype, new.dtype) for kept, new in zip(pool, pair, strict=True)]
            pool = [kept.astype(kind, copy=False) for kept, kind in zip(pool, kinds, strict=True)]
            for kept, new in zip(pool, pair, strict=True):
                kept[places[taken]] = new[free:][taken]  # of several for one place the last, as one after the other
        seen += len(pair[0])
    return (pool[0], pool[1]) if pool else _joined(waiting), seen


def newest(chunks: Iterable[Pair], count: int) -> tuple[Pair | None, int]:
    """The last examples of a stream, at most so many; takes and returns what `reservoir` does."""
    waiting: list[Pair] = []
    seen = 0
    for pair in chunks:
        waiting.append(pair)
        seen += len(pair[0])
        while sum(len(x) for x, _ in waiting[1:]) >= count:  # the others are enough
            del waiting[0]
    kept = _joined(waiting)
    return None if kept is None else (kept[0][-count:], kept[1][-count:]), seen


def _joined(pairs: list[Pair]) -> Pair | None:
    if not pairs:
        return None
    x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return x, y
