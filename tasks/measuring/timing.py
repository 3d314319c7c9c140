"""Calls timed in turn, and what their times say.

The interval of a ratio of median times is a percentile bootstrap over visits (clusters of rounds with pauses between
them), because a noisy machine slows neighbouring rounds together and rounds drawn singly would claim too much. Measured
again and again on a busy machine, 95% intervals from one sitting contained the long-run ratio 25 times of 36, and these
39 times of 48; calls of 4 µs were the worst.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from random import Random

import numpy as np
from pydantic import BaseModel, Field

from tasks.measuring.arrays import Figure, Floats, Outputs
from tasks.measuring.intervals import RESAMPLES, Interval

FEWEST_ROUNDS = 5  # of a timing, whatever the time limit says: a median of fewer says nothing
VISITS = 20  # that the rounds of a timing are spread over: what an interval of a ratio is drawn from
PAUSE = 0.02  # seconds between visits: enough for the scheduler to give the processor away
REWARMING = 3  # calls that a visit begins with and does not time


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


def latency_of(times: Floats) -> Latency:
    """Quantiles of the seconds that calls took, as `time_in_turn` gives them."""
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.5, 0.95, 0.99]))
    return Latency(p50=p50, p95=p95, p99=p99, rounds=times.size)
