"""The steps that a model's kernels are quantized in, looked up by the kernels' values.

Converters give layers other names, other layouts and other orders, and no place to put a step's size. What they leave
is each number. A kernel is looked up by its rows: `(places * input channels, channels)`, in the order (height, width,
input channel), which every layout can be brought into.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class KernelSteps:
    """Kernels in float32 as rows, and the size of each channel's steps `(channels,)`."""

    _known: dict[tuple[tuple[int, ...], bytes], np.ndarray] = field(default_factory=dict)

    def add(self, rows: np.ndarray, steps: np.ndarray) -> None:
        """Keep a kernel's steps."""
        rows = rows.astype(np.float32) + 0.0  # there is a zero below zero, with the same value in other bytes
        self._known[rows.shape, rows.tobytes()] = steps

    def of(self, rows: np.ndarray) -> np.ndarray | None:
        """The steps of a kernel with exactly these values; none if it is not quantized."""
        rows = np.ascontiguousarray(rows, np.float32) + 0.0
        return self._known.get((rows.shape, rows.tobytes()))
