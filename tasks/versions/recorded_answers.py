"""Answers, compared with those that were recorded when a version was registered."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import SmokeTestFailed

CLOSE = 1e-4  # of the largest answer: float kernels differ by less between processors, a wrong file by far more


def compare_answers(recorded: npt.NDArray[Any], answers: npt.NDArray[Any], who: str, close: float = CLOSE) -> float:
    """The furthest that answers `(n, …)` lie from those that were recorded, if it is no more than float noise.

    `close` is how much that is, as a share of the largest answer.

    Raises:
        SmokeTestFailed: it is more; says how many, and by how much.

    """
    if answers.shape != recorded.shape:
        raise SmokeTestFailed(f"{who} answers in the shape {answers.shape}, recorded was {recorded.shape}")
    largest = float(np.abs(recorded).max())
    away = np.abs(answers.astype(np.float64) - recorded).reshape(len(answers), -1).max(axis=1)
    away = np.nan_to_num(away, nan=np.inf)  # what is no number is as far away as can be
    wrong = int((away > close * max(largest, 1e-6)).sum())
    if wrong:
        raise SmokeTestFailed(
            f"{who} answers {wrong} of {len(answers)} examples otherwise than when the version was registered, by up "
            f"to {away.max():.3g} where the largest answer is {largest:.3g}: another runtime or another processor's "
            "integer kernels. Look at the evidence's machine; on this one, compress again"
        )
    return float(away.max())
