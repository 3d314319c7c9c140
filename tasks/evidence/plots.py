"""Plots, each a Matplotlib figure of its own that knows nothing of a screen or of other figures.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; nothing shows by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.artifact import Role, Target
from tasks.drift.distributions import Drift
from tasks.evidence.evidence import Evidence, FileEvidence
from tasks.evidence.sensitivities import Sensitivity, in_words, said
from tasks.formats import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"  # texts and axes; a page may put its own in its place
GRID = "#d0d7de"
PAPER = "#ffffff"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
COLORS: dict[Role, str] = {"teacher": "#8c959f", "student": "#56b4e9", "compressed": BLUE}

TARGET_NAMES: dict[Target, str] = {target: form.TITLE for target, form in FORMATS.items()}
LATENCY_AXIS = "Median latency at batch 1 (ms, log scale)"
# what the marks of targets are called in Matplotlib: told apart without colour
MARKS: dict[Target, str] = dict(zip(FORMATS, "oDs^v<>pPX", strict=False))
SERIES = (BLUE, "#56b4e9", GREEN, ORANGE, "#e69f00", "#cc79a7")  # of what is compared row by row, each with its mark
MOST_LAYERS = 24  # rows of a plot that is still looked at
MOST_NUMBERED = 20  # classes of a confusion matrix whose cells still have room for a number


def learning_curves(history: Sequence[Mapping[str, float]], score: str = "score") -> "Figure":
    """Loss and score by epoch, of training and validation.

    Args:
        history: for each epoch its `loss`, `score`, `validation_loss` and `validation_score`, where it has them.
        score: what the score is called.

    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank(1, 2, width=9, height=3.4)
    for panel, name, title in ((axes[0], "loss", "Loss"), (axes[1], "score", score.capitalize())):
        for key, color, label in (
            (name, COLORS["teacher"], "training"),
            (f"validation_{name}", BLUE, "validation"),
        ):
            points = [(epoch, values[key]) for epoch, values in enumerate(history, 1) if key in values]
            if not points:
                continue
            epochs, heights = zip(*points, strict=True)
            line = "--" if label == "training" else "-"
            panel.plot(
                epochs, heights, line, color=color, label=label, marker="o" if len(points) < 15 else None, ms=3.5
            )
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(axis="y", color=GRID, linewidth=0.8)
        if panel.lines:
            panel.legend()
    scored = [
        (values["validation_score"], epoch) for epoch, values in enumerate(history, 1) if "validation_score" in values
    ]
    if scored:
        best, epoch = max(scored, key=lambda point: (point[0], -point[1]))
        axes[1].plot([epoch], [best], marker="*", ms=12, color=ORANGE, linestyle="none")
        axes[1].annotate(f"{best:.4f}", (epoch, best), xytext=(0, -16), textcoords="offset points", ha="center")
    return figure


def sparsity_by_layer(sparsity: Mapping[str, float]) -> "Figure":
    """The share of zeros among each layer's weights, in the layers' order."""
    figure, (panel,) = blank(1, 1, width=7.5, height=1.1 + 0.28 * max(len(sparsity), 1))
    bars = panel.barh(range(len(sparsity)), list(sparsity.values()), color=BLUE, height=0.7)
    panel.bar_label(bars, [f"{share:.1%}" for share in sparsity.values()], padding=4)
    _rows(panel, list(sparsity))
    panel.set_xlim(0, 1.12)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    panel.set_title("Share of weights that are zero")
    panel.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def channels_by_layer(before: Mapping[str, int], after: Mapping[str, int]) -> "Figure":
    """How many channels each layer gives, and how many it gave, in the layers' order."""
    figure, (panel,) = blank(1, 1, width=7.5, height=1.1 + 0.28 * max(len(after), 1))
    panel.barh(range(len(after)), [before[layer] for layer in after], color=GRID, height=0.7)
    bars = panel.barh(range(len(after)), list(after.values()), color=BLUE, height=0.7)
    panel.bar_label(bars, [f"{count} of {before[layer]}" for layer, count in after.items()], padding=4)
    _rows(panel, list(after))
    panel.set_xlim(0, 1.25 * max(before.values(), default=1))
    panel.set_title("Channels that stay")
    return figure


def costs_by_layer(sensitivity: Sensitivity) -> "Figure":
    """What each change of each layer costs, in the model's order: how far outputs move, and the drop with its interval.

    Of a model with many layers those are shown that cost most. The drop is the first output's.
    """
    most = sorted(sensitivity.layers, key=lambda layer: -layer.worst)[:MOST_LAYERS]
    layers = [layer for layer in sensitivity.layers if layer in most]
    changes = list(dict.fromkeys(change for layer in layers for change in layer.costs))
    moved = [cost.change for layer in layers for cost in layer.costs.values() if cost.change]
    least = min(moved, default=1.0) / 2  # a logarithmic scale has no zero
    head, metric = next(iter(sensitivity.metrics.items()))
    figure, (left, right) = blank(1, 2, width=11, height=1.9 + 0.17 * len(changes) * len(layers))
    for number, change in enumerate(changes):
        place = 0.8 * ((number + 0.5) / len(changes) - 0.5)
        style: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "marker": "oDs^v<"[number % 6], "ms": 6}
        for row, layer in enumerate(layers):
            if change in layer.costs:
                cost = layer.costs[change]
                left.plot([max(cost.change, least)], [row + place], **style)
                right.plot([cost.drops[head].low, cost.drops[head].high], [row + place] * 2, color=style["color"])
                right.plot([cost.drops[head].estimate], [row + place], **style)
        right.plot([], [], linestyle="none", label=in_words(change), **style)
    left.set_xscale("log")
    left.set_title("Outputs moved by (share of their variance, log scale)")
    right.set_title(f"Drop of {said(head, metric)}, with its {100 * sensitivity.confidence:g}% interval")
    right.axvline(0, color=INK, linewidth=1)
    _rows(left, [layer.layer for layer in layers])
    _rows(right, [""] * len(layers))
    left.set_ylim(len(layers) - 0.5, -0.5)
    right.set_ylim(left.get_ylim())
    for panel in (left, right):
        panel.grid(axis="x", color=GRID, linewidth=0.8)
        for row in range(1, len(layers)):
            panel.axhline(row - 0.5, color=GRID, linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=min(len(changes), 3), frameon=False)
    return figure


def drifts_by_figure(drifts: Mapping[str, Drift], limit: float) -> "Figure":
    """How far figures have moved, the furthest on top; a line stands where drift begins."""
    furthest = sorted(drifts.items(), key=lambda item: -item[1].stability_index)[:MOST_NUMBERED]
    figure, (panel,) = blank(1, 1, width=7.5, height=1.3 + 0.28 * max(len(furthest), 1))
    indices = [drift.stability_index for _, drift in furthest]
    colors = [ORANGE if drift.drifted else BLUE for _, drift in furthest]
    bars = panel.barh(range(len(furthest)), indices, color=colors, height=0.7)
    panel.bar_label(
        bars, [f"{drift.stability_index:.3f}{' drifted' if drift.drifted else ''}" for _, drift in furthest], padding=4
    )
    _rows(panel, [name for name, _ in furthest])
    panel.axvline(limit, color=INK, linewidth=1, linestyle="dashed")
    panel.set_xlim(0, 1.25 * max([*indices, limit]))
    panel.set_title("Population stability index")
    panel.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def confusion(evidence: Evidence, file: FileEvidence) -> "Figure":
    """What a classifier's file answers for each label: shares of the row in colour, counts in the cells."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.array(file.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    number = len(counts)
    side = min(2.4 + 0.3 * number, 10)
    figure, (panel,) = blank(1, 1, width=side + 0.6, height=side)
    shades = LinearSegmentedColormap.from_list("shades", ["#f6f8fa", "#9ecae8", BLUE, "#00395c"])
    panel.imshow(shares, cmap=shades, vmin=0, vmax=1)
    panel.set_xticks(range(number), evidence.classes, rotation=90 if _wide(evidence.classes) else 0, parse_math=False)
    panel.set_yticks(range(number), evidence.classes, parse_math=False)
    panel.tick_params(length=0, labelsize=9 if number <= MOST_NUMBERED else 6)
    panel.spines[:].set_visible(False)
    panel.set_xlabel("answer")
    panel.set_ylabel("label")
    panel.set_title(f"{_title(file)}: {evidence.title} {file.accuracy.estimate:.4f}")
    if number <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = PAPER if shares[row, column] > 0.45 else "#1b1f24"
            panel.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=9)
    return figure


def drops(evidence: Evidence) -> "Figure":
    """How far each file's score lies below the teacher's in Keras, with intervals: the bad end is on the right."""
    files = [file for file in evidence.files if file.role != "teacher"]
    figure, (panel,) = blank(1, 1, width=9, height=1.5 + 0.42 * max(len(files), 1))
    unit = 100 if evidence.in_points else 1
    for row, file in enumerate(files):
        low, middle, high = (unit * end for end in (file.drop.low, file.drop.estimate, file.drop.high))
        panel.plot([low, high], [row, row], color=COLORS[file.role], linewidth=3, solid_capstyle="butt")
        panel.plot([middle], [row], marker="D" if file.shipped else "o", color=COLORS[file.role], ms=8)
        panel.annotate(
            f"{middle:+.{2 if unit == 100 else 4}f}",
            (middle, row),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
        )
    panel.axvline(0, color=INK, linewidth=1)
    panel.margins(x=0.08)
    panel.set_ylim(len(files) - 0.4, -0.8)
    panel.set_yticks(range(len(files)), [_title(file) for file in files])
    panel.tick_params(axis="y", length=0)
    panel.set_title(f"Drop of {evidence.title} below the teacher, with its {100 * evidence.confidence:g}% interval")
    panel.set_xlabel("better than the teacher  ←  " + ("points" if unit == 100 else evidence.title) + "  →  worse")
    panel.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def sizes_and_latencies(evidence: Evidence) -> "Figure":
    """Every file's size and median latency side by side; a line reaches from the median to the 95th percentile.

    Latencies of targets differ by orders of magnitude, so theirs is a scale of ratios.
    """
    files = evidence.files
    figure, (left, right) = blank(1, 2, width=10, height=1.4 + 0.36 * len(files))
    rows = range(len(files))
    colors = [COLORS[file.role] for file in files]
    sizes = [file.size_bytes / 1024 for file in files]
    bars = left.barh(rows, sizes, color=colors, height=0.7)
    left.bar_label(bars, [f"{size:,.1f}" for size in sizes], padding=4)
    left.set_title("Size (KiB)")
    _rows(left, [_title(file) for file in files])
    for row, file in enumerate(files):
        if not file.ran:
            continue
        p50, p95 = file.latency.p50 * 1000, file.latency.p95 * 1000
        right.plot([p50, p95], [row, row], color=colors[row], linewidth=2.5, solid_capstyle="butt")
        right.plot([p50], [row], marker="D" if file.shipped else "o", color=colors[row], ms=8)
        label = f"{p50:.3g}" + ("" if file.role == "teacher" else f"  ({file.speedup.estimate:.2f}x)")
        right.annotate(label, (p95, row), xytext=(9, 0), textcoords="offset points", va="center")
    right.set_xscale("log")
    fastest, slowest = (
        min(file.latency.p50 for file in files if file.ran),
        max(file.latency.p95 for file in files if file.ran),
    )
    room = (slowest / fastest) ** 0.45 * 1.6  # to the right, for the labels
    right.set_xlim(fastest * 1000 / 1.25, slowest * 1000 * room)
    right.xaxis.set_major_formatter(_plain_numbers())
    right.minorticks_off()
    right.set_title(LATENCY_AXIS)
    _rows(right, [""] * len(files))
    right.set_ylim(left.get_ylim())  # so that a file's bar and its point stand on one line
    left.set_xlim(0, max(sizes) * 1.22)
    for panel in (left, right):
        panel.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def pareto(evidence: Evidence) -> "Figure":
    """Score against size and against latency, one point a file; a line joins those that no other file beats in both.

    Latencies of targets whose runtime is not here are left out.
    """
    from matplotlib.lines import Line2D

    figure, panels = blank(1, 2, width=10, height=4.2)
    sizes = [(file, file.size_bytes / 1024) for file in evidence.files]
    times = [(file, file.latency.p50 * 1000) for file in evidence.files if file.ran]
    unit = 100 if evidence.in_points else 1
    for panel, points, title in zip(panels, (sizes, times), ("Size (KiB, log scale)", LATENCY_AXIS), strict=True):
        scores = [(cost, unit * file.accuracy.estimate) for file, cost in points]
        front_line(panel, scores, lower=evidence.lower_is_better)
        for file, cost in points:
            ends = [unit * end for end in (file.accuracy.low, file.accuracy.high)]
            panel.plot([cost, cost], ends, color=COLORS[file.role], linewidth=1.5, alpha=0.5)
            panel.plot(
                [cost], [unit * file.accuracy.estimate], marker=MARKS[file.target], color=COLORS[file.role], ms=9
            )
        cost_axis(panel, [cost for _, cost in points], title)
    title = evidence.by_head[evidence.heads[0].name].title if evidence.heads else evidence.title
    panels[0].set_ylabel(f"{title} (%)" if unit == 100 else title)
    roles = dict.fromkeys(file.role for file in evidence.files)
    targets = dict.fromkeys(file.target for file in evidence.files)
    keys = [Line2D([], [], marker="s", linestyle="none", color=COLORS[role], label=role) for role in roles]
    keys += [
        Line2D([], [], marker=MARKS[target], linestyle="none", color=INK, label=TARGET_NAMES[target])
        for target in targets
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    return figure


def front_line(panel: "Axes", points: Sequence[tuple[float, float]], *, lower: bool) -> None:
    """Join the points of cost and score that no other has at most the cost and at least as good a score of."""
    sign = -1 if lower else 1
    best, steps = float("-inf"), []
    for cost, score in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if sign * score > best:
            best = sign * score
            steps.append((cost, score))
    costs, scores = zip(*steps, strict=True)
    panel.step(costs, scores, where="post", color=INK, linewidth=1, linestyle="dashed", zorder=0)


def cost_axis(panel: "Axes", costs: Sequence[float], title: str) -> None:
    """Sizes or times along a panel, on a logarithmic scale with plain numbers."""
    from matplotlib.ticker import LogLocator

    panel.set_xscale("log")
    panel.set_xlim(min(costs) / 1.6, max(costs) * 1.6)  # one of the marks is always inside
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(_plain_numbers())
    panel.minorticks_off()
    panel.set_xlabel(title)
    panel.grid(color=GRID, linewidth=0.8)


def recall_by_class(evidence: Evidence, file: FileEvidence) -> "Figure":
    """How much of each class a file finds, beside its teacher's file; the classes that fell most stand on top."""
    import numpy as np

    shares = []
    for each in (evidence.teacher(file.target), file):
        counts = np.array(each.confusion)
        shares.append(counts.diagonal() / np.maximum(counts.sum(axis=1), 1))
    order = np.argsort(shares[1] - shares[0], kind="stable")
    figure, (panel,) = blank(1, 1, width=7.5, height=1.6 + 0.3 * len(order))
    rows = range(len(order))
    for share, role, place in zip(shares, ("teacher", file.role), (-0.18, 0.18), strict=True):
        bars = panel.barh([row + place for row in rows], share[order], color=COLORS[role], height=0.34, label=role)
        panel.bar_label(bars, [f"{value:.1%}" for value in share[order]], padding=4, fontsize=8)
    _rows(panel, [evidence.classes[label] for label in order])
    panel.set_xlim(0, 1.12)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    panel.set_title(f"Recall by class{f' of {evidence.name}' if evidence.name else ''}, {_title(file)}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    panel.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def _plain_numbers() -> Any:
    """Numbers on a scale of ratios as people write them, not as powers of ten."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:g}")


def blank(rows: int, columns: int, *, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure in our style, with its panels from left to right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER, dpi=120)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_facecolor("none")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[:].set_color(INK)
        panel.tick_params(colors=INK, labelsize=10)
        panel.title.set_fontsize(11)
    return figure, panels


def _rows(panel: "Axes", names: Sequence[str]) -> None:
    """Name horizontal bars, the first on top."""
    panel.set_yticks(range(len(names)), names, parse_math=False)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.invert_yaxis()


def _title(file: FileEvidence) -> str:
    """What a file is called beside its bar."""
    return f"{TARGET_NAMES[file.target]} {file.precision}, {file.role}" + (" *" if file.shipped else "")


def _wide(names: Sequence[Any]) -> bool:
    """Whether names stand too close to be written side by side."""
    return max((len(str(name)) for name in names), default=0) > 3 or len(names) > MOST_NUMBERED
