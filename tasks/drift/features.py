"""What each example is like, in a few numbers: what drift is looked for in.

A model's inputs have too many values to test one by one, and a change of camera, light, focus or unit shows in a few
statistics of each example: brightness, contrast, extremes, and how much neighbours differ, which falls with blur and
rises with noise (as in Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions").
A table's columns are few and mean something, so each is looked at by itself.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.contract.named import fields

COLUMNS = 128  # of a vector that is looked at value by value
CHANNELS = 16  # of an image or a sequence whose channels are looked at one by one

Features = dict[str, npt.NDArray[np.float64]]


def features_of(x: np.ndarray, columns: Sequence[str] = ()) -> Features:
    """Figures of raw examples `(n, …)`, each `(n,)`, by name; the same names for every array of that shape.

    Of several inputs each has its own, behind its name and a slash. `columns` are the names of a table's, which its
    figures go by.
    """
    return {
        f"{name}/{figure}" if name else figure: values
        for name, part in fields(x).items()
        for figure, values in _features(part, columns).items()
    }


def _features(x: np.ndarray, columns: Sequence[str]) -> Features:
    """Figures of one input."""
    values = np.asarray(x, np.float64)
    if values.ndim == 2 and values.shape[1] <= COLUMNS:
        return named(values, columns, "value")
    flat = values.reshape(len(values), -1)
    features = {
        "mean": flat.mean(axis=1),
        "std": flat.std(axis=1),
        "minimum": flat.min(axis=1),
        "maximum": flat.max(axis=1),
    }
    positions = range(1, max(values.ndim - 1, 2))
    steps = [
        np.abs(np.diff(values, axis=axis)).reshape(len(values), -1) for axis in positions if values.shape[axis] > 1
    ]
    if steps:
        features["roughness"] = np.mean([step.mean(axis=1) for step in steps], axis=0)
    if values.ndim > 2 and 1 < values.shape[-1] <= CHANNELS:
        means = values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)
        features |= {f"channel_{number}": column for number, column in enumerate(means.T)}
    return features


def named(values: np.ndarray, names: Sequence[str], kind: str) -> Features:
    """Columns `(n,)` of values `(n, columns)` by their names, or counted from 0 where they have none."""
    called = names or [f"{kind}_{number}" for number in range(values.shape[1])]
    return {name: np.asarray(column, np.float64) for name, column in zip(called, values.T, strict=True)}
