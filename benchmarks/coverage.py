"""How often the speed-up's interval contains the ratio that many sittings have in common: what its 95% are worth.

    python -m benchmarks.coverage [SITTINGS]

Each sitting times files of a pair as `validate` does by default, opened anew for each visit; and beside it as it was
done before, opened once. The long-run ratio that an interval has to contain is that of all other sittings' times.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

import benchmarks.quiet  # noqa: F401  first: TensorFlow reads its environment once
from benchmarks.say import say
from tasks.contract.artifact import Target
from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.measuring.arrays import Floats
from tasks.measuring.config import ValidateConfig
from tasks.measuring.intervals import Interval, wilson
from tasks.measuring.machine import Machine, describe_machine, load_average
from tasks.measuring.timing import ratio_interval, time_anew, time_in_turn
from tasks.quantization.fake_quantization import fake_quantized
from tasks.zoo import ModelConfig, build_model

RESULTS = Path(__file__).parent / "results"
SITTINGS = 40
PAIRS: tuple[tuple[str, Target], ...] = (("mlp", "onnxruntime"), ("cnn", "onnxruntime"), ("cnn", "litert"))
LEAST = 0.93  # of the intervals have to contain the long-run ratio
ANEW, ONCE = "opened anew", "opened once"

Timed = Callable[[], dict[str, Floats]]


class Coverage(BaseModel, frozen=True):
    """Of one way to time one pair of files."""

    pair: str
    way: str
    ratio: float  # of the float file's median over the integer file's, over all sittings
    sittings: int
    covered: int
    width: float  # of the interval over the ratio, in the median
    spread: float  # deviation of the ratio's logarithm from one sitting to the next
    seconds: float  # of a sitting, in the median


class Measured(BaseModel, frozen=True):
    """What is kept."""

    date: str
    machine: Machine
    rows: tuple[Coverage, ...]


def pairs(place: Path) -> dict[str, dict[str, Timed]]:
    """Ways to time a float file beside its integer file, by pair and way."""
    data, how = open_data(DataConfig()), ValidateConfig()
    x, _ = data.sample("train", 256)
    made: dict[str, dict[str, Timed]] = {}
    for model, target in PAIRS:
        network = build_model(ModelConfig(model=model), data, seed=0)
        form, opens = FORMATS[target], {}
        for precision, source in (("float32", network), ("int8", fake_quantized(network, x))):
            folder = place / f"{model}-{target}-{precision}"
            folder.mkdir()
            form.write(source, folder, precision, classes=data.classes)
            opens[precision] = partial(form.load, folder, threads=1)
        settings = x[:1], how.latency_rounds, how.warmup_rounds, how.latency_seconds

        def once(opens=opens, settings=settings) -> dict[str, Floats]:  # type: ignore[no-untyped-def]
            return time_in_turn({name: load() for name, load in opens.items()}, *settings)

        made[f"{model} on {target}"] = {ANEW: partial(time_anew, opens, *settings), ONCE: once}
    return made


def coverage(pair: str, way: str, sittings: list[dict[str, Floats]], seconds: list[float]) -> Coverage:
    """How many sittings' intervals contain the ratio of all others."""
    covered, widths = 0, []
    for number, times in enumerate(sittings):
        interval = ratio_interval(times["float32"], times["int8"], seed=number)
        long_run = _ratio([*sittings[:number], *sittings[number + 1 :]])
        covered += interval.low <= long_run <= interval.high
        widths.append((interval.high - interval.low) / long_run)
    return Coverage(
        pair=pair,
        way=way,
        ratio=_ratio(sittings),
        sittings=len(sittings),
        covered=covered,
        width=float(np.median(widths)),
        spread=float(np.std(np.log([_ratio([each]) for each in sittings]), ddof=1)),
        seconds=float(np.median(seconds)),
    )


def _ratio(sittings: list[dict[str, Floats]]) -> float:
    medians = (np.median(np.concatenate([each[name].ravel() for each in sittings])) for name in ("float32", "int8"))
    return float(np.divide(*medians))


def page(measured: Measured) -> str:
    """The table, in Markdown."""
    machine = measured.machine
    lines = [
        "# How often the speed-up's 95% interval contains the long-run ratio",
        "",
        f"`python -m benchmarks.coverage`, {measured.date}, {machine.name}, {machine.usable_cores} usable cores, load "
        f"{machine.load_before:g} before and {machine.load_after:g} after. A sitting times two files as `validate` "
        "does by default; the long-run ratio is that of all other sittings; `between sittings` is the deviation of its "
        "logarithm.",
        "",
        "| float over int8 | files are | ratio | intervals that contain it | width | between sittings | it takes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.pair} | {row.way} | {row.ratio:.2f} | {row.covered} of {row.sittings} | {row.width:.1%} | "
        f"{row.spread:.2%} | {row.seconds:.1f} s |"
        for row in measured.rows
    ]
    for way in (ANEW, ONCE):
        share = _share(measured, way)
        lines += [
            "",
            f"All pairs, files {way}: {share.estimate:.1%} of the intervals (Wilson's 95% interval {share.low:.1%} to "
            f"{share.high:.1%}).",
        ]
    return "\n".join(lines) + "\n"


def _share(measured: Measured, way: str) -> Interval:
    rows = [row for row in measured.rows if row.way == way]
    return wilson(sum(row.covered for row in rows), sum(row.sittings for row in rows))


def main(count: int) -> int:
    """Measure, print, and keep; exit code 1 if the intervals contain the long-run ratio too seldom."""
    before = load_average()
    with tempfile.TemporaryDirectory(prefix="slimline-coverage-") as place:
        ways = {(pair, way): timed for pair, made in pairs(Path(place)).items() for way, timed in made.items()}
        sittings: dict[tuple[str, str], list[dict[str, Floats]]] = {key: [] for key in ways}
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
        for number in range(count):
            say(f"sitting {number + 1} of {count}; the load is {load_average()}")
            for key, timed in ways.items():
                begun = time.perf_counter()
                sittings[key].append(timed())
                seconds[key].append(time.perf_counter() - begun)
    rows = tuple(coverage(*key, sittings[key], seconds[key]) for key in ways)
    date = datetime.now(UTC).date().isoformat()
    measured = Measured(date=date, machine=describe_machine(before), rows=rows)
    (RESULTS / "coverage.json").write_text(measured.model_dump_json(indent=1) + "\n")
    (RESULTS / "coverage.md").write_text(page(measured))
    print(page(measured))
    return int(_share(measured, ANEW).estimate < LEAST)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SITTINGS))
