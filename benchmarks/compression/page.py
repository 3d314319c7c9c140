"""The table, and the picture of what is worth having: accuracy against latency and size."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks.compression.measure import THROUGHPUT_BATCH, FileRow
from tasks.evidence.plots import BLUE, GRID, INK, ORANGE
from tasks.measuring.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNTIMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}
TICKS = [digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)]
MOST_LOST, SMALLER, FASTER = 0.01, 10.0, 4.0  # the goal: by the bad end of the interval, of the file, at batch 1


def page(rows: Sequence[FileRow], machine: Machine, notes: Sequence[str]) -> str:
    """The whole page."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    lines = [
        "# Compression, beside the tools that one would take instead",
        "",
        *verdict(rows),
        f"{machine.processor}, {machine.usable_cores} cores; load {machine.load_before} before and "
        f"{machine.load_after} after. Python {machine.python}, {libraries}.",
        *notes,
        "",
        "All rows start from the same trained float teacher and the same calibration images; all files are timed in "
        "turn in one process, one thread. Accuracy with its 95% interval (Wilson); the drop is in pairs with the float "
        "teacher in ONNX Runtime on the same test images (Tango); how many times smaller and faster is against that "
        "file too. Work is the seconds that it took to make the file from the teacher, training included.",
        "",
        "![accuracy, latency and size](compression.png)",
        "",
        "| runtime | way | accuracy | drop, points | KB (gzip) | smaller | parameters | MACs, M | integers "
        f"| p50 (p99), µs | faster | examples/s at {THROUGHPUT_BATCH} | work, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: FileRow) -> str:
    title = f"**{row.title}**" if row.ours else row.title
    if row.accuracy is None or row.drop is None or row.faster is None:
        return f"| {RUNTIMES[row.target]} | {title} | {row.failure.replace('|', '/')} | | | | | | | | | | |"
    return (
        f"| {RUNTIMES[row.target]} | {title} | {row.accuracy.estimate:.2%} ({row.accuracy.low:.2%} to "
        f"{row.accuracy.high:.2%}) | {100 * row.drop.estimate:+.2f} ({100 * row.drop.low:+.2f} to "
        f"{100 * row.drop.high:+.2f}) | {row.size_bytes / 1024:.0f} ({row.gzip_bytes / 1024:.0f}) | {row.smaller:.1f}x "
        f"| {row.parameters:,} | {row.macs / 1e6:.1f} | {row.integer_share:.0%} | {1e6 * row.p50:.0f} "
        f"({1e6 * row.p99:.0f}) | {row.faster.estimate:.2f}x ({row.faster.low:.2f} to {row.faster.high:.2f}) | "
        f"{row.throughput:,.0f} | {row.work_seconds:,.0f} |"
    )


def verdict(rows: Sequence[FileRow]) -> Iterator[str]:
    """What was reached beside the goal, for each of our files, and which files of others are better in everything."""
    for row in rows:
        if not row.ours or row.drop is None or row.faster is None:
            continue
        goals = [
            (f"at most {100 * MOST_LOST:g} point lost: {100 * row.drop.high:+.2f}", row.drop.high <= MOST_LOST),
            (f"{SMALLER:g} times smaller: {row.smaller:.1f}", row.smaller >= SMALLER),
            (f"{FASTER:g} times faster: {row.faster.estimate:.2f}", row.faster.estimate >= FASTER),
        ]
        figures = "; ".join(f"{what} ({'reached' if kept else '**missed**'})" for what, kept in goals)
        better = [f"{RUNTIMES[other.target]} {other.title}" for other in rows if not other.ours and beats(other, row)]
        yield f"**{RUNTIMES[row.target]}, {row.title}**: {figures}. Better in accuracy, size and latency together: " + (
            f"{', '.join(better)}." if better else "none of the others."
        )
        yield ""


def beats(one: FileRow, other: FileRow) -> bool:
    """Whether a file is better than another in accuracy, size and latency together."""
    if one.accuracy is None or other.accuracy is None:
        return False
    return one.accuracy.estimate > other.accuracy.estimate and one.size_bytes < other.size_bytes and one.p50 < other.p50


def table(rows: Sequence[FileRow]) -> str:
    """The same as comma-separated values, in the units of the fields."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    plain = [name for name in FileRow.model_fields if name not in ("accuracy", "drop", "faster")]
    ends = [f"{name}_{end}" for name in ("accuracy", "drop", "faster") for end in ("estimate", "low", "high")]
    writer.writerow([*plain, *ends])
    for row in rows:
        values = row.model_dump()
        intervals = [(values[name.rsplit("_", 1)[0]] or {}).get(name.rsplit("_", 1)[1], "") for name in ends]
        writer.writerow([*(values[name] for name in plain), *intervals])
    return text.getvalue()


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Those of points (cost, worth) that no other one is as good as in both and better in one, cheapest first."""
    best: list[int] = []
    for number in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if not best or points[number][1] > points[best[-1]][1]:
            best.append(number)
    return best


def picture(rows: Sequence[FileRow]) -> "Figure":
    """Accuracy against latency, and against size; a line joins what nothing else is better than in both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    shown = [row for row in rows if row.accuracy is not None]
    panels = figure.subplots(1, 2, sharey=True)
    for panel, label, costs in (
        (panels[0], "latency at batch 1, µs", [1e6 * row.p50 for row in shown]),
        (panels[1], "file, KB", [row.size_bytes / 1024 for row in shown]),
    ):
        scores = [100 * row.accuracy.estimate for row in shown if row.accuracy is not None]
        joined = front(list(zip(costs, scores, strict=True)))
        panel.plot([costs[at] for at in joined], [scores[at] for at in joined], color=INK, linewidth=1, zorder=1)
        for row, cost, score in zip(shown, costs, scores, strict=True):
            assert row.accuracy is not None
            panel.errorbar(
                cost,
                score,
                yerr=[[score - 100 * row.accuracy.low], [100 * row.accuracy.high - score]],
                fmt="o" if row.target == "onnxruntime" else "s",
                color=ORANGE if row.ours else BLUE,
                markersize=8 if row.ours else 5,
                elinewidth=0.8,
                zorder=2,
            )
        panel.set_xscale("log")
        ticks = [tick for tick in TICKS if min(costs) / 1.5 < tick < 1.5 * max(costs)]
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
        panel.set_xlabel(label)
        panel.grid(color=GRID, linewidth=0.8)
    panels[0].set_ylabel("test accuracy, %")
    figure.suptitle("Ours in orange, others in blue; circles run in ONNX Runtime, squares in LiteRT", fontsize=10)
    return figure
