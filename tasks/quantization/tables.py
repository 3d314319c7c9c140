"""Tables that embeddings are looked up in, in 8 bits: no kernel multiplies them, so one step serves for all of one."""

import numpy as np

LEVELS = 127
NEAR = 1e-3  # of a step: what is nearer to a whole number of them was rounded to it


def step_of(table: np.ndarray) -> float:
    """The size of the steps that a table is rounded to; 0 for one of zeros alone."""
    return float(np.abs(table).max(initial=0)) / LEVELS


def rounded(table: np.ndarray) -> np.ndarray:
    """A table's numbers `(rows, size)` in whole steps."""
    if not (step := step_of(table)):
        return table
    numbers: np.ndarray = (np.rint(table / step) * np.float32(step)).astype(np.float32)
    return numbers


def counts(table: np.ndarray) -> np.ndarray | None:
    """A table that was rounded, as whole numbers of its steps, int8; none of one that was not."""
    if table.dtype != np.float32 or table.ndim != 2 or not (step := step_of(table)):
        return None
    exact = table / np.float32(step)
    near = np.rint(exact)
    return near.astype(np.int8) if np.abs(exact - near).max() < NEAR else None
