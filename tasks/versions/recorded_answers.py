"""Answers, compared with those that were recorded when a version was registered."""

import numpy as np

from tasks.contract.errors import SmokeTestFailed
from tasks.contract.named import Array, field, fields, names_of

CLOSE = 1e-4  # of the largest answer: float kernels differ by less between processors, a wrong file by far more


def compare_answers(recorded: Array, answers: Array, who: str, close: float = CLOSE) -> float:
    """The furthest that answers `(n, …)`, or records of several outputs', lie from those that were recorded.

    `close` is how far they may, as a share of the output's largest answer: float noise.

    Raises:
        SmokeTestFailed: one is further; says of which output, how many, and by how much.

    """
    if set(names_of(answers)) != set(names_of(recorded)):
        told = [", ".join(filter(None, names_of(each))) or "one without a name" for each in (answers, recorded)]
        raise SmokeTestFailed(f"{who} answers by the outputs {told[0]}, recorded were {told[1]}")
    return max(_compared(was, field(answers, name), who, name, close) for name, was in fields(recorded).items())


def _compared(recorded: Array, answers: Array, who: str, output: str, close: float) -> float:
    by = f" by {output}" if output else ""
    if answers.shape != recorded.shape:
        raise SmokeTestFailed(f"{who} answers{by} in the shape {answers.shape}, recorded was {recorded.shape}")
    largest = float(np.abs(recorded).max())
    away = np.abs(answers.astype(np.float64) - recorded).reshape(len(answers), -1).max(axis=1)
    away = np.nan_to_num(away, nan=np.inf)  # what is no number is as far away as can be
    wrong = int((away > close * max(largest, 1e-6)).sum())
    if wrong:
        raise SmokeTestFailed(
            f"{who} answers {wrong} of {len(answers)} examples{by} otherwise than when the version was registered, by "
            f"up to {away.max():.3g} where the largest answer is {largest:.3g}: another runtime or another processor's "
            "integer kernels. Look at the evidence's machine; on this one, compress again"
        )
    return float(away.max())


def largest(answers: Array) -> float:
    """The largest answer of any output, whatever its sign."""
    return max(float(np.abs(each).max()) for each in fields(answers).values())
