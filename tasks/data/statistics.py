"""What the train split's values are like: for the model's first layer, and for the score's scale."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.data.source import rows_per_chunk

Floats = npt.NDArray[np.float64]
Variance = float | tuple[float, ...]  # of targets: one number, or one for each target where there are several


@dataclass(frozen=True)
class Statistics:
    """Of one array `(n, …, channels)`.

    mean, std: `(channels,)`, over examples and positions; a vector's values each count as a channel.
    variance: of each value over the examples, averaged over the values.
    variances: the same `(channels,)`, averaged over positions alone.
    """

    mean: Floats
    std: Floats
    minimum: float
    maximum: float
    variance: float
    variances: Floats


def statistics_of(chunks: Iterable[np.ndarray]) -> Statistics:
    """One pass in double precision; chunks are merged by Chan, Golub and LeVeque (1979): nothing cancels."""
    rows = 0
    mean: Floats = np.zeros(())
    scatter: Floats = np.zeros(())  # sum of squared deviations, for each value of an example
    minimum, maximum = np.inf, -np.inf
    for chunk in sliced(chunks):
        chunk_mean = chunk.mean(axis=0, dtype=np.float64)
        deviations = np.square(chunk - chunk_mean).sum(axis=0)
        shift = chunk_mean - mean
        scatter = scatter + deviations + np.square(shift) * (rows * len(chunk) / (rows + len(chunk)))
        rows += len(chunk)
        mean = mean + shift * (len(chunk) / rows)
        minimum, maximum = min(minimum, float(chunk.min())), max(maximum, float(chunk.max()))
    variance = scatter / rows
    positions = tuple(range(mean.ndim - 1))
    spread = variance.mean(axis=positions) + mean.var(axis=positions)
    return Statistics(
        mean=mean.mean(axis=positions),
        std=np.sqrt(spread),
        minimum=minimum,
        maximum=maximum,
        variance=float(variance.mean()),
        variances=variance.mean(axis=positions),
    )


def sliced(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in chunks so small that double precision takes little memory."""
    for chunk in chunks:
        rows = rows_per_chunk(chunk[0].nbytes)
        for start in range(0, len(chunk), rows):
            yield chunk[start : start + rows]
