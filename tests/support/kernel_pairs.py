"""Pairs of weights, written out slowly, to compare the fast ways with."""

from itertools import pairwise

import numpy as np


def heaviest(rows: np.ndarray, filled_up: int = 1) -> np.ndarray:
    """What the like-signed weights of two that meet sum to at most, by channel, `(channels,)`.

    `rows` are `(inner, channels)`; with `filled_up` input channels, zeros are put behind each so many up to a multiple
    of four, as oneDNN does it.
    """
    sums = []
    for column in rows.T.astype(np.int64).tolist() if rows.dtype == np.int8 else rows.T.tolist():
        weights = []
        for start in range(0, len(column), filled_up):
            part = column[start : start + filled_up]
            weights += part + [0] * (-len(part) % 4 if filled_up > 1 else 0)
        weights += [0] * (len(weights) % 2)
        pairs = list(pairwise(weights))[::2]
        sums.append(max(max(max(a, 0) + max(b, 0), max(-a, 0) + max(-b, 0)) for a, b in pairs))
    return np.array(sums)
