"""Calls timed in turn, and what their times say.

The interval of a ratio of median times is a percentile bootstrap over visits (clusters of rounds), because a noisy
machine slows neighbouring rounds together and rounds drawn singly would claim too much. Files are opened anew for each
visit: one opening is luckier in the places of its memory than another, by up to a tenth, which a sitting with one
opening cannot see. Its 95% intervals contained the long-run ratio 39 times of 48; how often these do is measured by
`python -m benchmarks.coverage`.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from random import Random
from statistics import NormalDist

import numpy as np
from pydantic import BaseModel, Field

from tasks.measuring.arrays import Figure, Floats, Outputs
from tasks.measuring.intervals import RESAMPLES, Interval

FEWEST_ROUNDS = 5  # of a timing, whatever the time limit says: a median of fewer says nothing
VISITS = 20  # that the rounds of a timing are spread over: what an interval of a ratio is drawn from
PAUSE = 0.02  # seconds between visits: enough for the scheduler to give the processor away
REWARMING = 3  # calls that a visit begins with and does not time
FEWEST_OPENINGS = 5  # of a timing with files opened anew, however long opening takes
BETWEEN = (
    0.01  # deviation of a ratio's logarithm from one sitting to the next, which visits do not show: benchmarks.coverage
)
SETTLING = 10  # calls behind an opening that are not timed: allocators and caches settle by then


class Latency(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How long one call takes, in seconds."""

    p50: Figure = Field(gt=0, description="Half of the calls are faster.")
    p95: Figure = Field(gt=0, description="19 of 20 calls are faster.")
    p99: Figure = Field(gt=0, description="99 of 100 calls are faster; with few rounds, nearly the slowest one.")
    rounds: int = Field(ge=1, description="Calls that were timed.")
    batch: int = Field(1, ge=1, description="Examples in a call.")


class Throughput(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Examples a second at a larger batch: the batch over the median time of a call."""

    examples_per_second: Figure = Field(gt=0)
    batch: int = Field(ge=1, description="Examples in a call.")
    rounds: int = Field(ge=1, description="Calls that were timed.")


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
    affordable = seconds / _warmed(calls, x, warmup, seconds / 4, draw)
    if affordable < rounds:
        rounds = max(int(affordable), min(rounds, FEWEST_ROUNDS))
    each = math.ceil(rounds / VISITS)
    visits = rounds // each
    turns = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(visits):
            if each > 1:
                time.sleep(PAUSE)
                _turn(calls, x, REWARMING, draw)
            turns.append(_turn(calls, x, each, draw))
    finally:
        if collecting:
            gc.enable()
    return {name: np.array([visit[name] for visit in turns], np.float64) / 1e9 for name in calls}


def time_anew(
    files: Mapping[str, Callable[[], Callable[[Outputs], object]]],
    x: Outputs,
    rounds: int,
    warmup: int,
    seconds: float = math.inf,
) -> dict[str, Floats]:
    """As `time_in_turn`, with the files opened anew for each visit, in an order that is drawn: for ratios of times.

    Where opening takes long there are fewer visits, so that it takes up to half of the time limit, but no fewer than
    `FEWEST_OPENINGS`.

    Args:
        files: what is timed, by name: each opens a file and gives a call.
        x: what each is called with.
        rounds: how often each is timed, at most.
        warmup: how often each is called before the first visit.
        seconds: fewer rounds are made if they would take longer, but one for each visit.

    Returns:
        Seconds of each round by name, `(visits, rounds in a visit)`.

    """
    draw = Random(0)  # noqa: S311  an order, not a secret
    names = list(files)

    def opened() -> dict[str, Callable[[Outputs], object]]:
        draw.shuffle(names)
        return {name: files[name]() for name in names}

    begun = time.perf_counter()
    calls = opened()
    opening = time.perf_counter() - begun
    round_seconds = _warmed(calls, x, warmup, seconds / 4, draw)
    del calls  # one opening at a time: large files would fill the memory
    gc.collect()  # a SavedModel is a cycle of references, and stays in memory otherwise
    settling = min(SETTLING, int(seconds / VISITS / 4 / round_seconds)) if seconds < math.inf else SETTLING
    beside = opening + settling * round_seconds + PAUSE
    visits = int(min(VISITS, rounds, max(seconds / 2 / beside, FEWEST_OPENINGS)))
    each = int(min(rounds // visits, max((seconds / visits - beside) / round_seconds, 1)))
    turns = []
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()  # so that a collection looks at what was opened alone: milliseconds beside TensorFlow, not tenths
    try:
        for _ in range(visits):
            calls = opened()
            _turn(calls, x, settling, draw)
            turns.append(_turn(calls, x, each, draw))
            del calls
            gc.collect()
            time.sleep(PAUSE)
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    return {name: np.array([visit[name] for visit in turns], np.float64) / 1e9 for name in files}


def _warmed(
    calls: Mapping[str, Callable[[Outputs], object]], x: Outputs, warmup: int, seconds: float, draw: Random
) -> float:
    """The seconds that a round takes, behind so many rounds or so many seconds."""
    begun = time.perf_counter()
    for number in range(warmup):
        if number and time.perf_counter() - begun > seconds:
            break
        _turn(calls, x, 1, draw)
    begun = time.perf_counter()
    _turn(calls, x, 1, draw)
    return time.perf_counter() - begun


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

    Whole visits are drawn, for both together, and the interval's ends are those of an expanded percentile interval
    (Hesterberg 2015, "What teachers should know about the bootstrap"): of so few visits plain percentiles are too
    narrow. What a sitting cannot show, as the machine's mood outlasts it, is added to both sides in quadrature, by the
    deviation `BETWEEN` sittings. It tells what another time of measuring on this machine would give; another machine
    may give another ratio.
    """
    if a is b:  # a file beside itself
        return Interval(low=1, estimate=1, high=1)
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
    tail = _expanded((1 - confidence) / 2, visits)
    low, high = np.quantile(ratios, [tail, 1 - tail])
    mood = NormalDist().inv_cdf((1 + confidence) / 2) * BETWEEN
    below, above = (math.hypot(max(away, 0.0), mood) for away in (math.log(estimate / low), math.log(high / estimate)))
    return Interval(low=estimate * math.exp(-below), estimate=estimate, high=estimate * math.exp(above))


def _expanded(tail: float, visits: int) -> float:
    """The share of resamples beyond an end that makes up for how few visits there are: by t in the normal's place."""
    if visits < 2:
        return tail
    from scipy.stats import t

    return NormalDist().cdf(math.sqrt(visits / (visits - 1)) * float(t.ppf(tail, visits - 1)))


def latency_of(times: Floats) -> Latency:
    """Quantiles of the seconds that calls took, as `time_in_turn` gives them."""
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.5, 0.95, 0.99]))
    return Latency(p50=p50, p95=p95, p99=p99, rounds=times.size)
