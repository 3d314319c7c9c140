"""The measurement as Markdown: a table for each subject, and what must hold beside what was seen."""

from collections.abc import Iterator, Sequence

from benchmarks.conversion.measure import RouteRow, SubjectResult
from benchmarks.conversion.official import Official, OfficialRow
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import Machine

RUNTIMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}
MOST_NAMES = 10  # of layers, in one line
LEAST_SHARE, LEAST_AGREEMENT, MOST_LOST = 0.99, 0.99, 0.005


def page(results: Sequence[SubjectResult], official: Sequence[Official], machine: Machine, notes: Sequence[str]) -> str:
    """The whole page."""
    lines = ["# From a Keras model to integers, by each way", "", *head(machine, notes)]
    for subject in results:
        lines += ["", *tables(subject)]
    for model in official:
        lines += ["", *_official(model)]
    if results or official:
        lines += ["", "## What must hold", "", "| what | where | seen | holds |", "| --- | --- | ---: | --- |"]
        lines += [
            f"| {what} | {where} | {seen} | {'yes' if holds else '**no**'} |"
            for what, where, seen, holds in [*_claims(results), *_official_claims(official)]
        ]
    return "\n".join(lines) + "\n"


def head(machine: Machine, notes: Sequence[str]) -> list[str]:
    """Where it was measured, and what the columns are."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    return [
        f"{machine.processor}, {machine.usable_cores} cores, {', '.join(machine.instruction_sets)}; load "
        f"{machine.load_before} before and {machine.load_after} after. Python {machine.python}, {libraries}.",
        *notes,
        "",
        "Batch 1, one thread; all files of one model are timed in turn in one process, in one order after another, "
        "each with the files opened anew: p50 with the quartiles. The ratio is the runtime's float file's median over "
        "this one's, with its 95% interval: above 1 is faster than float. Integers: the share of multiply-accumulates "
        "that the runtime's own graph has in integer kernels, by the same audit for every file; and, where the runtime "
        "tells, the share of its kernels' time. A file is compared with the Keras model that it was made from, by the "
        "first 1,000 test inputs: ours and tfmot's with their fake-quantized model, the others with the float one. *As "
        "float* holds every file against the float model.",
    ]


def tables(result: SubjectResult) -> Iterator[str]:
    """A row for each file, and what stayed in float."""
    last = "same class" if result.score == "accuracy" else "worst error, steps"
    yield f"## {result.subject}"
    yield ""
    yield f"{result.says}; {result.macs:,} multiply-accumulates; {result.tests:,} test inputs."
    yield ""
    compared = f"{result.score} | from Keras | {last} | as float"
    yield f"| runtime | route | KB | {compared} | integers | of the time | p50, µs | ratio |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in result.rows:
        yield _row(row)
    notes = [row for row in result.rows if row.in_float and row.route != "float"]
    if notes:
        yield ""
    for row in notes:
        reasons = "; ".join(f"{_listed(names)}: {why}" for why, names in row.in_float.items())
        yield f"- {RUNTIMES[row.target]}, {row.route}, in float: {reasons}"


def _listed(names: Sequence[str]) -> str:
    """Names, or how many there are if they are many or not distinct."""
    return ", ".join(names) if len(set(names)) == len(names) <= MOST_NAMES else f"{len(names)} kernels"


def _row(row: RouteRow) -> str:
    name = f"**{row.route}**" if row.ours else row.route
    if row.failure:
        return f"| {RUNTIMES[row.target]} | {name} | | | | | | | | {row.failure.replace('|', '/')} | |"
    last = _share(row.agreement) if row.agreement is not None else f"{row.worst_steps:.2f}"
    return (
        f"| {RUNTIMES[row.target]} | {name} | {row.kilobytes:.0f} | {row.score:.4f} | {row.from_keras:+.4f} | {last} "
        f"| {_share(row.as_float)} | {row.integer_share:.1%} | {_share(row.integer_time)} "
        f"| {row.p50 * 1e6:.0f} ({row.p25 * 1e6:.0f} to {row.p75 * 1e6:.0f}) | {_interval(row.speedup)} |"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _interval(interval: Interval | None, digits: int = 2, sign: str = "") -> str:
    if interval is None:
        return ""
    return f"{interval.estimate:{sign}.{digits}f} ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"


def _claims(results: Sequence[SubjectResult]) -> Iterator[tuple[str, str, str, bool]]:
    """What is claimed, of what, the figure that was seen, and whether it holds."""
    for subject in results:
        for row in subject.rows:
            if not row.ours:
                continue
            where = f"{subject.subject}, {RUNTIMES[row.target]}, {row.route}"
            if row.failure:
                yield "there is a file", where, row.failure, False
                continue
            yield "integers >= 99%", where, f"{row.integer_share:.2%}", row.integer_share >= LEAST_SHARE
            if row.agreement is not None:
                yield "same class as Keras >= 99%", where, f"{row.agreement:.1%}", row.agreement >= LEAST_AGREEMENT
            yield (
                f"{subject.score} within 0.005 of Keras",
                where,
                f"{row.from_keras:+.4f}",
                abs(row.from_keras) <= MOST_LOST,
            )
        if subject.subject == "resnet8":
            for ours, peers in subject.against.items():
                slower = {name: ratio for name, ratio in peers.items() if name != "float"}
                if not slower:
                    continue
                best = min(slower, key=lambda name: slower[name].estimate)
                yield (
                    "no slower than the best peer",
                    f"{subject.subject}, ONNX Runtime, {ours}, against {best}",
                    _interval(slower[best]),
                    slower[best].high >= 1,
                )


def _official_claims(official: Sequence[Official]) -> Iterator[tuple[str, str, str, bool]]:
    """The same of the official models: our int8 file's accuracy below the official one's, in pairs."""
    for model in official:
        if not model.rows:
            yield "there is a measurement", model.name, "none", False
        for row in model.rows:
            if row.ours and row.below is not None and row.below_inputs is not None:
                where = f"{model.name}, {RUNTIMES[row.target]}"
                for place, below in (("test split", row.below), ("official inputs", row.below_inputs)):
                    what = f"at least as accurate as the official int8 file, {place}"
                    yield what, where, f"below by {_interval(below, 3, '+')}", below.low <= 0


def _official(model: Official) -> Iterator[str]:
    yield f"## {model.name}: the official model"
    yield ""
    yield model.says
    if not model.rows:
        return
    yield ""
    yield (
        "| runtime | file | KB | accuracy, test split | below the official int8 file | accuracy, official inputs "
        "| below | integers | p50, µs | ratio |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in model.rows:
        yield _official_row(row)


def _official_row(row: OfficialRow) -> str:
    name = f"**{row.file}**" if row.ours else row.file
    return (
        f"| {RUNTIMES[row.target]} | {name} | {row.kilobytes:.0f} | {_interval(row.accuracy, 3)} "
        f"| {_interval(row.below, 3, '+')} | {_interval(row.accuracy_inputs, 3)} "
        f"| {_interval(row.below_inputs, 3, '+')} | {row.integer_share:.1%} "
        f"| {row.p50 * 1e6:.0f} ({row.p25 * 1e6:.0f} to {row.p75 * 1e6:.0f}) | {_interval(row.speedup)} |"
    )
