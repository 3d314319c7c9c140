"""The steps that a model's kernels are held to, found again by the kernels' values.

Converters give layers other names, other layouts and other orders, and no place to put a step's size. What they leave
is each number. A kernel is looked up by its rows: `(places * input channels, channels)`, in the order (height, width,
input channel), which every layout can be brought into.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class KernelSteps:
    """Kernels in float32 as rows, and the size of each channel's steps `(channels,)`."""

    _known: dict[tuple[tuple[int, ...], bytes], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, rows: np.ndarray, steps: np.ndarray) -> None:
        """Keep a kernel's steps."""
        rows = rows.astype(np.float32) + 0.0  # there is a zero below zero, with the same value in other bytes
        self._known[rows.shape, rows.tobytes()] = rows, steps

    def of(self, rows: np.ndarray) -> np.ndarray | None:
        """The steps of a kernel with exactly these values; none if it is held to none."""
        rows = np.ascontiguousarray(rows, np.float32) + 0.0
        found = self._known.get((rows.shape, rows.tobytes()))
        return None if found is None else found[1]

    def near(self, rows: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The nearest kernel with all its values within `off` `(channels,)` of these: its rows and its steps."""
        best, nearest = None, np.inf
        for kernel, steps in self._known.values():
            if kernel.shape != rows.shape:
                continue
            away = np.abs(kernel - rows)
            if (away <= off).all() and away.sum() < nearest:
                best, nearest = (kernel, steps), float(away.sum())
        return best
