"""Scores, intervals, parity and timing, on NumPy arrays and nothing else.

The methods, so that anyone can check a figure:

- a share of right answers: Wilson's score interval (Wilson 1927);
- the difference of two such shares on the same examples: Tango's score interval (Tango 1998, Statistics in Medicine
  17:891-908), which has a width even when both models are right on the same examples;
- a mean that is no share, and the mean of paired differences: BCa bootstrap over examples (Efron 1987);
- a ratio of median times: percentile bootstrap over visits (clusters of rounds with pauses between them), because a
  noisy machine slows neighbouring rounds together and rounds drawn singly would claim too much. Measured again and
  again on a busy machine, 95% intervals from one sitting held the long-run ratio 25 times of 36, and these 39 times of
  48; calls of 4 µs were the worst.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, Field

from tasks.problem import Problem

Floats = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.floating[Any]]
Figure = Annotated[float, AfterValidator(lambda value: float(f"{value:.6g}"))]  # no measurement here has more digits

SMALLEST_PROBABILITY = 1e-7  # log loss takes smaller ones for this: integer files answer with exact zeros
RESAMPLES = 2000  # of a bootstrap: an end of the 95% interval moves by about 3% of the interval's width between seeds
FEWEST_ROUNDS = 5  # of a timing, whatever the time limit says: a median of fewer says nothing
VISITS = 20  # that the rounds of a timing are spread over: what an interval of a ratio is drawn from
PAUSE = 0.02  # seconds between visits: enough for the scheduler to give the processor away
REWARMING = 3  # calls that a visit begins with and does not time

SCORE_NAMES: dict[Problem, str] = {"classification": "accuracy", "regression": "r2", "reconstruction": "r2"}


class Interval(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """An estimate and the ends of its confidence interval."""

    low: Figure = Field(description="The lower end.")
    estimate: Figure = Field(description="What was measured.")
    high: Figure = Field(description="The upper end.")


def scores(
    problem: Problem, y: npt.NDArray[Any], prediction: Outputs, variance: float | Sequence[float] = 1.0
) -> Floats:
    """Each example's score, whose mean is the accuracy or R².

    Args:
        problem: classification scores 1.0 for a right answer and 0.0 for a wrong one; the others
            1 - mean((y - prediction)²) / variance, which is 1 for a perfect answer and has no lower bound.
        y: labels `(n,)` for a classification, else values of the prediction's shape.
        prediction: `(n, classes)`, one sigmoid unit's `(n, 1)` for two classes, `(n, targets)` or `(n, …)`.
        variance: of the train targets, one for each of several targets; not used for a classification.

    Returns:
        `(n,)`; where there is a variance for each target, each target's own `(n, targets)`.

    """
    if problem == "classification":
        return np.asarray(by_class(prediction).argmax(axis=1) == y, dtype=np.float64)
    error = np.square(prediction.astype(np.float64) - y).reshape(len(y), -1)
    if np.ndim(variance):
        return np.asarray(1 - error / np.asarray(variance, np.float64), dtype=np.float64)
    return np.asarray(1 - error.mean(axis=1) / variance, dtype=np.float64)


def by_class(answers: Outputs) -> Outputs:
    """A classifier's answers `(n, classes)`; of one sigmoid unit `(n, 1)`, the share of the second class, of both."""
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


def guessing(problem: Problem, y: npt.NDArray[Any]) -> float:
    """The mean score of who always says the same: the commonest class, or, as good as nothing, the mean."""
    return float(np.bincount(y.astype(np.int64)).max() / len(y)) if problem == "classification" else 0.0


def good_enough(score: float, floor: float, guess: float) -> bool:
    """Whether a teacher is worth keeping up with: a floor of 0 asks for better than guessing, one below for nothing."""
    return floor < 0 or (score >= floor if floor else score > guess)


def interval(values: Floats, problem: Problem, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean score with its interval: Wilson's for a classification, else BCa bootstrap over examples.

    Of scores `(n, targets)` it is the mean over the targets too.
    """
    if problem == "classification":
        return wilson(int(values.sum()), len(values), confidence)
    return bootstrap_mean(values.reshape(len(values), -1).mean(axis=1), confidence, seed)


def paired_interval(
    reference: Floats, candidate: Floats, problem: Problem, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """By how much the candidate's mean score lies below the reference's, on the same examples `(n,)`.

    Tango's interval for a classification, else BCa bootstrap of the differences. Of scores `(n, targets)` it is the
    worst target's, by the interval's bad end: a budget then holds for every target, and none hides behind another.
    """
    if problem == "classification":
        lost = int(((reference == 1) & (candidate == 0)).sum())
        gained = int(((reference == 0) & (candidate == 1)).sum())
        return tango(lost, gained, len(reference), confidence)
    away = (reference - candidate).reshape(len(reference), -1)
    drops = [bootstrap_mean(np.ascontiguousarray(each), confidence, seed) for each in away.T]
    return max(drops, key=lambda drop: drop.high)


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(right: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share `right / n` (Wilson 1927)."""
    share, z = right / n, _z(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(
        low=0 if right == 0 else min(centre - half, share),
        estimate=share,
        high=1 if right == n else max(centre + half, share),
    )


def tango_statistic(lost: int, gained: int, n: int, difference: float) -> float:
    """The score statistic of the hypothesis that the paired difference of shares is `difference`, within (-1, 1).

    Tango 1998, equations 24 to 26, in the sign that has `difference` = P(lost) - P(gained). `lost` and `gained` are the
    examples of n that only the first, or only the second, has right. At `difference` 0 it is McNemar's statistic.
    """
    b = -lost - gained + (2 * n - lost + gained) * difference
    root = math.sqrt(max(b * b + 8 * n * gained * difference * (1 - difference), 0.0))
    # The root of 2n·q² + b·q - gained·difference·(1 - difference), in the form that does not cancel for b > 0.
    q = (root - b) / (4 * n) if b <= 0 else 2 * gained * difference * (1 - difference) / (root + b)
    spread = n * (2 * q + difference * (1 - difference))
    distance = lost - gained - n * difference
    if spread <= 0:  # the boundary of what is possible: any distance at all is then infinitely unlikely
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(spread)


def tango(lost: int, gained: int, n: int, confidence: float = 0.95) -> Interval:
    """Tango's score interval for the paired difference of shares `(lost - gained) / n` (Tango 1998)."""
    z, estimate = _z(confidence), (lost - gained) / n

    def end(far: float, wanted: float) -> float:
        """Where the statistic, which falls as the difference grows, is `wanted`: between the estimate and `far`."""
        near = estimate
        for _ in range(60):
            middle = (near + far) / 2
            inside = abs(tango_statistic(lost, gained, n, middle)) < abs(wanted)
            near, far = (middle, far) if inside else (near, middle)
        return (near + far) / 2

    return Interval(low=-1 if gained == n else end(-1.0, z), estimate=estimate, high=1 if lost == n else end(1.0, -z))


def bootstrap_mean(values: Floats, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `(n,)` with its bias-corrected and accelerated bootstrap interval (Efron 1987).

    Values that are all the same give an interval of no width: the bootstrap cannot know of others.
    """
    n, mean = len(values), float(values.mean())
    away = values - mean
    square = float(np.square(away).sum())
    if n < 2 or square <= (np.finfo(np.float64).eps * abs(mean)) ** 2 * n:
        return Interval(low=mean, estimate=mean, high=mean)
    random = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    rows = max(1, 2_000_000 // n)  # keeps what is drawn at once to about 24 MB
    for start in range(0, RESAMPLES, rows):
        drawn = random.integers(0, n, (min(rows, RESAMPLES - start), n), dtype=np.int32)
        means[start : start + len(drawn)] = away[drawn].mean(axis=1)
    normal = NormalDist()
    below = (np.count_nonzero(means < 0) + np.count_nonzero(means == 0) / 2) / RESAMPLES
    bias = normal.inv_cdf(min(max(below, 1 / RESAMPLES), 1 - 1 / RESAMPLES))
    unit = away / np.abs(away).max()  # powers of tiny differences would vanish
    # the jackknife's, in closed form for a mean
    acceleration = float(np.power(unit, 3).sum() / (6 * np.square(unit).sum() ** 1.5))

    def level(z: float) -> float:
        return normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    z = _z(confidence)
    low, high = np.quantile(means, [level(-z), level(z)])
    return Interval(low=mean + min(float(low), 0.0), estimate=mean, high=mean + max(float(high), 0.0))


def agreement(a: Outputs, b: Outputs) -> float:
    """The share of examples on which two outputs `(n, classes)` name the same class first."""
    return float((by_class(a).argmax(axis=1) == by_class(b).argmax(axis=1)).mean())


class Parity(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How far a file's outputs are from those of the Keras model that it was made from, element by element."""

    max_absolute: Figure = Field(ge=0, description="The largest difference.")
    mean_absolute: Figure = Field(ge=0, description="The mean difference.")
    max_relative: Figure = Field(ge=0, description="The largest difference over the Keras model's largest output.")
    agreement: Figure | None = Field(
        None, description="Share of examples with the same first class; classification only."
    )


def parity(problem: Problem, reference: Outputs, outputs: Outputs) -> Parity:
    """Compare outputs of the same shape `(n, …)`."""
    difference = np.abs(reference.astype(np.float64) - outputs)
    largest = float(difference.max())
    scale = float(np.abs(reference).max())
    return Parity(
        max_absolute=largest,
        mean_absolute=float(difference.mean()),
        max_relative=largest / scale if scale else largest,
        agreement=agreement(reference, outputs) if problem == "classification" else None,
    )


def confusion_matrix(y: npt.NDArray[Any], prediction: Outputs, classes: int) -> npt.NDArray[np.int64]:
    """Counts `(classes, classes)`: the row is the label, the column the answer."""
    cells = y.astype(np.int64) * classes + by_class(prediction).argmax(axis=1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def further_figures(
    problem: Problem,
    y: npt.NDArray[Any],
    prediction: Outputs,
    names: Sequence[str] = (),
    variance: float | Sequence[float] = 1.0,
) -> dict[str, float]:
    """What a mean score hides: a class that collapsed, probabilities that are off, errors in the target's own unit.

    Args:
        problem: as `scores` takes it.
        y: as `scores` takes it.
        prediction: as `scores` takes it.
        names: of a regression's targets, where there are several.
        variance: as `scores` takes it.

    Returns:
        For a classification `balanced_accuracy`, `worst_class_recall` (over the classes that are in y) and `log_loss`
        in nats; otherwise `rmse` and `mae` in the target's unit. Each of several targets has its own, behind a slash
        its name, and its `r2` where its variance is given.

    """
    if problem == "regression" and y.ndim == 2 and y.shape[1] > 1:
        called = names or [f"target_{number}" for number in range(y.shape[1])]
        each = [further_figures(problem, y[:, [n]], prediction[:, [n]]) for n in range(y.shape[1])]
        if np.ndim(variance):
            own = scores(problem, y, prediction, variance).mean(axis=0)
            each = [{"r2": float(score), **found} for score, found in zip(own, each, strict=True)]
        return {f"{kind}/{name}": found[kind] for kind in each[0] for name, found in zip(called, each, strict=True)}
    if problem != "classification":
        error = prediction.astype(np.float64) - y
        return {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}
    prediction = by_class(prediction)
    matrix = confusion_matrix(y, prediction, prediction.shape[1])
    present = matrix.sum(axis=1) > 0
    recall = matrix.diagonal()[present] / matrix.sum(axis=1)[present]
    probabilities = as_probabilities(prediction)
    return {
        "balanced_accuracy": float(recall.mean()),
        "worst_class_recall": float(recall.min()),
        "log_loss": float(-np.log(probabilities[np.arange(len(y)), y]).mean()),
    }


def as_probabilities(outputs: Outputs) -> Floats:
    """A classifier's answers `(n, classes)` as probabilities: those that lie outside 0 to 1 are taken for logits.

    Others for shares of the whole, which the probabilities of integer files are too.
    """
    values = outputs.astype(np.float64)
    if values.min(initial=0) < -1e-3 or values.max(initial=0) > 1 + 1e-3:
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values = np.clip(values, SMALLEST_PROBABILITY, None)
    found: Floats = values / values.sum(axis=1, keepdims=True)
    return found


def time_in_turn(
    calls: Mapping[str, Callable[[Outputs], object]],
    x: Outputs,
    rounds: int,
    warmup: int,
    seconds: float = math.inf,
) -> dict[str, Floats]:
    """Time calls on the same input in turn, A B C B C A, so that what slows the machine slows them all.

    The order is drawn anew each round, the same ones each time: whoever always ran behind the same neighbour would find
    the caches as that one leaves them, which made up to 7 %.

    The rounds are spread over visits with pauses between them, because a processor stays in one mood (clock, caches,
    neighbours) for longer than many rounds take. Python's garbage collector is off meanwhile. Each timed call comes
    right behind an untimed one of the same file, as in a service that has one model: behind another one's call, files
    of 200 microseconds took up to 1.7 times as long, large ones hardly longer.

    Args:
        calls: what is timed, by name.
        x: what each is called with.
        rounds: how often each is timed, at most.
        warmup: how often each is called before; a quarter of the time limit at most.
        seconds: fewer rounds are made if they would take longer, but no fewer than `FEWEST_ROUNDS`.

    Returns:
        Seconds of each round by name, `(visits, rounds in a visit)`.

    """
    draw = Random(0)  # noqa: S311  an order, not a secret
    begun = time.perf_counter()
    for number in range(warmup):
        if number and time.perf_counter() - begun > seconds / 4:
            break
        _turn(calls, x, 1, draw)
    begun = time.perf_counter()
    _turn(calls, x, 1, draw)
    affordable = seconds / (time.perf_counter() - begun)
    if affordable < rounds:
        rounds = max(int(affordable), min(rounds, FEWEST_ROUNDS))
    each = math.ceil(rounds / VISITS)
    visits = rounds // each
    found = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(visits):
            if each > 1:
                time.sleep(PAUSE)
                _turn(calls, x, REWARMING, draw)
            found.append(_turn(calls, x, each, draw))
    finally:
        if collecting:
            gc.enable()
    return {name: np.array([visit[name] for visit in found], np.float64) / 1e9 for name in calls}


def _turn(
    calls: Mapping[str, Callable[[Outputs], object]], x: Outputs, rounds: int, draw: Random
) -> dict[str, list[int]]:
    """Nanoseconds of each call, in turn, each round in an order of its own."""
    spent: dict[str, list[int]] = {name: [] for name in calls}
    timed = [(call, spent[name]) for name, call in calls.items()]
    clock = time.perf_counter_ns
    for _ in range(rounds):
        draw.shuffle(timed)
        for call, into in timed:
            call(x)  # not timed: the next one finds the caches as this file leaves them, and not its neighbour
            start = clock()
            call(x)
            into.append(clock() - start)
    return spent


def ratio_interval(a: Floats, b: Floats, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The ratio of medians `median(a) / median(b)` of times `(visits, rounds in a visit)` taken in turn.

    Whole visits are drawn, for both together. It tells what another time of measuring in this process would give;
    another process, machine or neighbour may give another ratio.
    """
    visits = len(a)
    estimate = float(np.median(a) / np.median(b))
    random = np.random.default_rng(seed)
    ratios = np.empty(RESAMPLES)
    rows = max(1, 1_000_000 // a.size)  # keeps what is drawn at once to about 16 MB
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = random.integers(0, visits, (count, visits))
        medians = (np.median(times[drawn].reshape(count, -1), axis=1) for times in (a, b))
        ratios[start : start + count] = np.divide(*medians)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(low=min(float(low), estimate), estimate=estimate, high=max(float(high), estimate))


def independent_difference(a: Interval, b: Interval) -> Interval:
    """By how much b lies below a, where each was measured on examples of its own.

    From the two intervals alone, by variance estimates recovery (Zou and Donner 2008); of Wilson's intervals it makes
    Newcombe's score interval for independent shares (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    """
    difference = a.estimate - b.estimate
    below = math.hypot(a.estimate - a.low, b.high - b.estimate)
    above = math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(low=difference - below, estimate=difference, high=difference + above)
