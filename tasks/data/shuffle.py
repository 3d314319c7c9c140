"""Examples that stream by, shuffled through a pool of bounded size and laid out in batches."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Placed = tuple[np.ndarray, npt.NDArray[np.int64]]  # inputs `(n, …)` and their places in the split


def placed(chunks: Iterator[np.ndarray]) -> Iterator[Placed]:
    """Chunks with the place of each example in its split."""
    start = 0
    for x in chunks:
        yield x, np.arange(start, start + len(x))
        start += len(x)


def shuffled(chunks: Iterator[Placed], size: int, draws: np.random.Generator) -> Iterator[Placed]:
    """Shuffles through a pool of so many examples: what comes in takes the place of examples drawn from it."""
    pool: Placed | None = None
    filled = 0
    for x, rows in chunks:
        if pool is None:
            pool = np.empty((size, *x.shape[1:]), x.dtype), np.empty(size, np.int64)
        taken = min(len(x), size - filled)
        pool[0][filled : filled + taken], pool[1][filled : filled + taken] = x[:taken], rows[:taken]
        filled += taken
        for start in range(taken, len(x), size):
            incoming = x[start : start + size], rows[start : start + size]
            places = draws.choice(size, len(incoming[0]), replace=False)
            yield pool[0][places], pool[1][places]
            pool[0][places], pool[1][places] = incoming
    if pool is not None:
        order = draws.permutation(filled)
        for start in range(0, filled, 1024):
            places = order[start : start + 1024]
            yield pool[0][places], pool[1][places]


def rebatched(chunks: Iterator[Placed], batch_size: int) -> Iterator[Placed]:
    """The same examples in batches of one size, the last one smaller."""
    waiting: list[Placed] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk[0])
        if count < batch_size:
            continue
        x, rows = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        whole = count - count % batch_size
        for start in range(0, whole, batch_size):
            yield x[start : start + batch_size], rows[start : start + batch_size]
        waiting, count = [(x[whole:], rows[whole:])], count - whole
    if count:
        x, rows = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        yield x, rows
