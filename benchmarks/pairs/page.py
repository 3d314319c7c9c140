"""The measurement as Markdown: what each way costs and gains, a table for each network, the aims."""

from collections.abc import Iterator, Sequence

from benchmarks.pairs.files import FULL, PAIRS, WAYS
from benchmarks.pairs.measure import ELSEWHERE, NetworkResult, WayRow
from benchmarks.pairs.timing import NetworkTiming
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine

MOST_LOST = 0.001  # of the score: a tenth of a point
POINTS = 100  # in a score of one


def page(results: Sequence[NetworkResult], machine: Machine, notes: Sequence[str]) -> str:
    """The whole page; the machine is the one that answers were made on."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    lines = [
        "# The pair rule: what it costs, and what it gains",
        "",
        f"Answers here: {machine.name}, {machine.usable_cores} cores: {', '.join(machine.instruction_sets)}. "
        f"Python {machine.python}, {libraries}.",
        *notes,
        "",
        "All files in integers are made of one float model after training, with the same ranges; only their kernels "
        "differ. A point is a hundredth of accuracy, or of R²; below: by how much less than the full-range file's, on "
        "the same examples, with its 95% interval, so that what is better has a minus. Answers elsewhere differ if "
        "one does of the last integers, all that comes before a softmax in float. Times: batch 1, one thread, all "
        "files in turn in one process, each round in an order drawn anew, with the files opened anew for each of "
        "several orders: p50 with the quartiles; the ratio is the median over the full-range file's, with its 95% "
        "interval: above 1 is slower.",
        "",
        *_summary(results),
    ]
    for network in results:
        lines += ["", *_network(network)]
    if results:
        lines += ["", "## Aims of the pair rule", "", "| aim | network | seen | holds |", "| --- | --- | ---: | --- |"]
        lines += [f"| {what} | {where} | {seen} | {holds} |" for what, where, seen, holds in _aims(results)]
    return "\n".join(lines) + "\n"


def _summary(results: Sequence[NetworkResult]) -> Iterator[str]:
    """A row for each way: whether it is exact, and of each network what is lost in points and the ratio of times.

    And a row for each processor where one answers otherwise.
    """
    yield f"| file | same answers elsewhere | {' | '.join(network.network for network in results)} |"
    yield f"| --- | --- | {' | '.join('---:' for _ in results)} |"
    for way in WAYS:
        cells = []
        for network in results:
            row = network.rows[way]
            cell = (
                f"{_lost(row)} points below"
                if way not in ("float", FULL)
                else f"{_score(network)} {row.score.estimate:.4f}"
            )
            if network.timing:
                cell += f", {network.timing.times[way].to_full.estimate:.2f}x"
            cells.append(cell)
        yield f"| {_bold(way)} | {_exact(network.rows[way] for network in results)} | {' | '.join(cells)} |"
        for processor in ELSEWHERE:
            there = [network.rows[way].elsewhere.get(processor) for network in results]
            if any(each and each.differ for each in there):
                cells = [f"{POINTS * each.below.estimate:+.2f} points below" if each else "" for each in there]
                yield f"| {_bold(way)}, on {processor} | | {' | '.join(cells)} |"
    yield ""
    for way, what in WAYS.items():
        yield f"- {_bold(way)}: {what.says}"


def _exact(rows: Iterator[WayRow]) -> str:
    shares = [there.differ for row in rows for there in row.elsewhere.values()]
    if not shares:
        return ""
    return f"**no**, up to {max(shares):.1%} differ" if any(shares) else "yes, every bit"


def _network(result: NetworkResult) -> Iterator[str]:
    yield f"## {result.network}"
    yield ""
    yield f"{result.says}; {result.macs:,} multiply-accumulates; {result.tests:,} test inputs."
    yield ""
    if result.timing:
        yield _sitting(result.timing)
        yield ""
    further = "same class as float" if result.score == "accuracy" else "mean squared error"
    yield (
        f"| file | KB | integers | steps | layers that can saturate | {_score(result)} | "
        f"below, points | {further} | p50, µs | ratio | to float |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for way, row in result.rows.items():
        cells = [
            f"{row.kilobytes:.0f}",
            "" if row.integer_share is None else f"{row.integer_share:.1%}",
            "" if row.steps is None else f"{row.steps:.2f}x",
            "" if row.saturating is None else str(row.saturating),
            _interval(row.score, 4),
            _points(row.below),
            f"{row.same_class:.2%}" if row.mse is None else f"{row.mse:.2f}",
            *_times(result.timing, way),
        ]
        yield f"| {_bold(way)} | {' | '.join(cells)} |"
    yield ""
    for processor, reason in result.unasked.items():
        yield f"Not asked on {processor}: {reason}."
        yield ""
    if not result.emulators:
        return
    yield f"Elsewhere, of the first {result.asked_elsewhere:,} test inputs (below: than the full-range file here):"
    yield ""
    titles = [
        f"{processor} ({emulator}): differ | {_score(result)} | below, points"
        for processor, emulator in result.emulators.items()
    ]
    yield f"| file | {_score(result)} here | {' | '.join(titles)} |"
    yield f"| --- | ---: | {' | '.join('---: | ---: | ---:' for _ in titles)} |"
    for way, row in result.rows.items():
        if row.elsewhere:
            cells = [
                f"{there.differ:.1%} | {there.score:.4f} | {_points(there.below)}"
                for there in (row.elsewhere[processor] for processor in result.emulators)
            ]
            yield f"| {_bold(way)} | {row.score_here:.4f} | {' | '.join(cells)} |"


def _sitting(timing: NetworkTiming) -> str:
    machine = timing.machine
    return (
        f"Times of {timing.date}: {machine.name}, {timing.rounds:,} rounds in {timing.orders} orders; load "
        f"{machine.load_before} before and {machine.load_after} after, on {machine.usable_cores} cores."
    )


def _times(timing: NetworkTiming | None, way: str) -> tuple[str, str, str]:
    if timing is None:
        return "", "", ""
    time = timing.times[way]
    p50, p25, p75 = (1e6 * value for value in (time.p50, time.p25, time.p75))
    return f"{p50:.0f} ({p25:.0f} to {p75:.0f})", _interval(time.to_full, 3), f"{time.to_float.estimate:.2f}"


def _aims(results: Sequence[NetworkResult]) -> Iterator[tuple[str, str, str, str]]:
    """What is aimed at, where, the figure that was seen, and whether it holds."""
    for network in results:
        row = network.rows[PAIRS]
        assert row.below is not None
        what = f"{_score(network)} at most 0.1 points below full range, here"
        undecided = row.below.low <= MOST_LOST < row.below.estimate
        holds = "**no**, though its interval reaches there" if undecided else _holds(row.below.estimate <= MOST_LOST)
        yield what, network.network, _points(row.below), holds
    for network in results:
        if network.timing:
            ratio = network.timing.times[PAIRS].to_full
            yield (
                "not slower than full range by more than the interval",
                network.network,
                _interval(ratio, 3),
                _holds(ratio.low <= 1),
            )
    for network in results:
        row = network.rows[PAIRS]
        yield "no layer can saturate", network.network, str(row.saturating), _holds(row.saturating == 0)
        for processor, there in row.elsewhere.items():
            what = f"every bit as here on {processor}"
            yield what, network.network, f"{there.differ:.1%} differ", _holds(there.differ == 0)


def _holds(kept: bool) -> str:
    return "yes" if kept else "**no**"


def _score(result: NetworkResult) -> str:
    return {"r2": "R²"}.get(result.score, result.score)


def _lost(row: WayRow) -> str:
    return f"{POINTS * row.below.estimate:+.2f}" if row.below else ""


def _bold(way: str) -> str:
    return f"**{way}**" if way == PAIRS else way


def _points(below: Interval | None) -> str:
    if below is None:
        return ""
    estimate, low, high = (POINTS * value for value in (below.estimate, below.low, below.high))
    return f"{estimate:+.2f} ({low:+.2f} to {high:+.2f})"


def _interval(interval: Interval, digits: int) -> str:
    return f"{interval.estimate:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
