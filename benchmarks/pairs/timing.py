"""How fast the files of one network are here: a part of its own, to be measured again when the machine is quiet."""

import time
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from benchmarks.conversion.measure import ORDERS, time_in_orders
from benchmarks.pairs.answers import opened
from benchmarks.pairs.files import FULL, WAYS
from benchmarks.say import say
from tasks.formats.onnx import files as form
from tasks.measuring import timing
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine, describe_machine, load_average


class Time(BaseModel, frozen=True):
    """Seconds of a call, and their median over the full-range file's and over the float file's."""

    p50: float
    p25: float
    p75: float
    to_full: Interval
    to_float: Interval


class NetworkTiming(BaseModel, frozen=True):
    """One sitting in which all files of a network were timed: in so many orders, each file in so many rounds."""

    date: str
    machine: Machine
    orders: int
    rounds: int
    times: dict[str, Time]


def timed(network: str, folder: Path, *, rounds: int, seconds: float, seed: int) -> NetworkTiming:
    """Time all files of a network in turn, opened anew for each order, each round in an order that is drawn anew.

    Args:
        network: its name, for progress.
        folder: where `files.write` put its files.
        rounds: how often each file is timed, at most.
        seconds: how long the timing of all takes, at most.
        seed: of the orders and the bootstrap.

    """
    before = load_average()
    say(f"{network}: timing {len(WAYS)} files in turn; the load is {before}")
    example = np.load(folder / "example.npy")
    files = {
        name: partial(opened, str(folder / way.made / form.FILE), switched=way.switched) for name, way in WAYS.items()
    }
    times = time_in_orders(files, example, rounds, seconds, seed)  # type: ignore[arg-type]  # all outputs, not one

    def of(name: str) -> Time:
        p25, p50, p75 = (float(value) for value in np.quantile(times[name], [0.25, 0.5, 0.75]))
        to_full, to_float = (timing.ratio_interval(times[name], times[other], seed=seed) for other in (FULL, "float"))
        return Time(p50=p50, p25=p25, p75=p75, to_full=to_full, to_float=to_float)

    return NetworkTiming(
        date=time.strftime("%Y-%m-%d"),
        machine=describe_machine(before),
        orders=ORDERS,
        rounds=times[FULL].size,
        times={name: of(name) for name in WAYS},
    )
