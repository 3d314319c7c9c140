"""Evidence for people: one page that needs nothing else, and the model card."""

import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from tasks.contract.artifact import Role
from tasks.evidence import plots
from tasks.evidence.evidence import Evidence, FileEvidence, write_evidence
from tasks.evidence.plots import TARGET_NAMES
from tasks.measuring.intervals import Interval

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
PLOTS = "plots"

ROLE_NAMES: dict[Role, str] = {
    "teacher": "Teacher",
    "student": "Student in float",
    "compressed": "Compressed",
}
ENOUGH_INTEGERS = 0.9  # an int8 file with less of its work in integer kernels is called float
ENOUGH_AGREEMENT = 0.99  # a file that agrees less with its Keras model is called another model
WORST_CLASS = 0.05  # a class whose recall fell by more than this is named,
FEWEST_LOST = 5  # unless fewer of its examples make up the fall: that may well be chance


@dataclass(frozen=True)
class Verdict:
    """One sentence about a file that ships, and whether it is good news."""

    kind: Literal["good", "open", "bad"]
    text: str


@dataclass(frozen=True)
class About:
    """What a page tells beyond what was measured: of which compression, by which recipe, inside which limits.

    version: its address, empty where none was registered. limits: each one's field, limit, what was measured, and
    whether it is kept. curves: of each stage that trained, its epochs. links: where more is to be seen, by its name.
    """

    name: str
    version: str
    date: str
    recipe: str
    limits: Sequence[tuple[str, str, str, bool]]
    curves: Mapping[str, Sequence[Mapping[str, float]]]
    links: Mapping[str, str]


def verdicts(evidence: Evidence, file: FileEvidence) -> list[Verdict]:
    """What the figures of a file come to, in words: accuracy, size, speed, what runs in integers, and what is odd."""
    teacher = evidence.teacher(file.target)
    views = [(each, each.same(file)) for each in evidence.by_head.values()]
    sentences = [*(_accuracy(*view) for view in views), _size(teacher, file), _speed(evidence, file)]
    if file.precision == "int8" and file.target == "savedmodel":
        sentences.append(Verdict("open", "Its integers are computed in float: TensorFlow has no integer kernels here."))
    elif file.precision == "int8" and not file.ran:
        name = TARGET_NAMES[file.target]
        work = f"{file.integer_share:.1%} of its multiply-accumulates"
        sentences.append(
            Verdict("open", f"{work} are predicted to run in integer kernels, by {name}'s documented rules; not run.")
        )
    elif file.precision == "int8":
        enough = file.integer_share >= ENOUGH_INTEGERS
        sentences.append(
            Verdict(
                "good" if enough else "bad",
                f"{file.integer_share:.1%} of its multiply-accumulates run in integer kernels"
                + ("." if enough else ": it is int8 by name, and the rest runs in float."),
            )
        )
    if file.audit.integer_macs:
        sentences.append(_everywhere(file))
    for view in views:
        sentences += [*_agreement(*view), *_targets(*view), *_slices(*view), *_worst_fall(*view)]
    return sentences


def _agreement(evidence: Evidence, file: FileEvidence) -> list[Verdict]:
    """Whether it is another model than the Keras model that it was made from."""
    if file.parity.agreement is None or file.parity.agreement >= ENOUGH_AGREEMENT:
        return []
    share, of = 1 - file.parity.agreement, f" by {evidence.name}" if evidence.name else ""
    return [
        Verdict(
            "bad" if file.ran else "open",  # TensorRT's ranges about zero leave half the steps behind a Relu
            f"It answers {share:.1%} of the examples otherwise{of} than the Keras model it was made from.",
        )
    ]


def _accuracy(evidence: Evidence, file: FileEvidence) -> Verdict:
    drop, worst = file.drop, amount(evidence, file.drop.high)
    worse, better = evidence.side[True], evidence.side[False]
    score = f"{_sentence(evidence)} {level(evidence, file.accuracy.estimate)}"
    confidence = f"{100 * evidence.confidence:g}% confidence"
    if drop.low > 0:
        return Verdict(
            "bad", f"{score}, {amount(evidence, drop.estimate)} {worse} the teacher's; up to {worst} with {confidence}."
        )
    if drop.high < 0:
        gain = amount(evidence, -drop.estimate)
        return Verdict("good", f"{score}, {gain} {better} the teacher's; {better} it with {confidence}.")
    side = "the same as the teacher's"
    if drop.estimate:
        direction = evidence.side[drop.estimate > 0]
        side = f"{amount(evidence, abs(drop.estimate))} {direction} the teacher's, which may be chance"
    return Verdict("open", f"{score}, {side}; a loss of up to {worst} cannot be ruled out ({confidence}).")


def _targets(evidence: Evidence, file: FileEvidence) -> list[Verdict]:
    """Each of several targets: none hides behind another."""
    scores = [
        f"{name} {level(evidence, each.score.estimate)} ({amount(evidence, each.drop.estimate)} worse, at worst "
        f"{amount(evidence, each.drop.high)})"
        for name, each in file.targets.items()
    ]
    return [Verdict("open", f"{titled(evidence)} by target: {', '.join(scores)}.")] if scores else []


def _slices(evidence: Evidence, file: FileEvidence) -> list[Verdict]:
    """The slice that lost most, and whether that may be chance."""
    if not file.slices:
        return []
    name, worst = max(file.slices.items(), key=lambda each: each[1].drop.low)
    lost = f"{amount(evidence, worst.drop.estimate)}, from {amount(evidence, worst.drop.low)} to "
    lost += f"{amount(evidence, worst.drop.high)} on {worst.examples:,} examples"
    if worst.drop.low > 0:
        return [Verdict("bad", f"The slice {name} lost most: {lost}.")]
    return [Verdict("open", f"No slice is shown to have lost; {name} lost most: {lost}.")]


def _size(teacher: FileEvidence, file: FileEvidence) -> Verdict:
    return Verdict(
        "good" if file.size_bytes < teacher.size_bytes else "bad",
        f"{size(file.size_bytes)}, {times_smaller(teacher.size_bytes, file.size_bytes)} than the teacher in float "
        f"({size(teacher.size_bytes)}).",
    )


def times_smaller(before: int, after: int) -> str:
    """What became of a number of bytes, as people say it."""
    return f"{before / after:.1f} times smaller" if after <= before else f"{after / before:.1f} times larger"


def _speed(evidence: Evidence, file: FileEvidence) -> Verdict:
    if not file.ran:
        return Verdict("open", f"How fast {TARGET_NAMES[file.target]} runs it was not measured: it is not here.")
    speedup = file.speedup
    span = f"({speedup.low:.2f} to {speedup.high:.2f} with {100 * evidence.confidence:g}% confidence)"
    median = f"{duration(file.latency.p50)} for one example"
    if speedup.low > 1:
        return Verdict("good", f"{median}, {speedup.estimate:.2f} times as fast as the teacher {span}.")
    if speedup.high < 1:
        return Verdict("bad", f"{median}, slower than the teacher: {speedup.estimate:.2f} times its speed {span}.")
    return Verdict(
        "open", f"{median}, {speedup.estimate:.2f} times the teacher's speed: no difference is shown {span}."
    )


def _everywhere(file: FileEvidence) -> Verdict:
    """Whether its integers are those of every processor."""
    if file.audit.everywhere is None:
        return Verdict("open", "Whether its integers are the same on every processor was not looked at.")
    if file.audit.everywhere:
        return Verdict("good", "Its integers are the same on x86 with VNNI and without, and on ARM64.")
    return Verdict("bad", f"It answers otherwise on other processors: {file.audit.apart_in_words}.")


def _worst_fall(evidence: Evidence, file: FileEvidence) -> list[Verdict]:
    """The class whose recall fell most, where it fell far."""
    teacher = evidence.teacher(file.target)
    falls = [
        ((before[label] - after[label]) / sum(before), before[label] - after[label], evidence.classes[label])
        for label, (before, after) in enumerate(zip(teacher.confusion, file.confusion, strict=True))
        if sum(before)
    ]
    fall, lost, name = max((one for one in falls if one[1] >= FEWEST_LOST), default=(0.0, 0, ""))
    if fall <= WORST_CLASS:
        return []
    what = "places" if sum(map(sum, file.confusion)) > evidence.examples else "examples"
    of = f" of {evidence.name}" if evidence.name else ""
    return [Verdict("bad", f"Class {name}{of} fell most: {100 * fall:.1f} points of recall, which are {lost} {what}.")]


def titled(evidence: Evidence) -> str:
    """What people call the metric, with the output's name where there are others."""
    return evidence.title.replace("r2", "R²")


def _sentence(evidence: Evidence) -> str:
    """The same at the beginning of a sentence; an output's name stays as it is written."""
    return titled(evidence) if evidence.name else titled(evidence).capitalize()


def level(evidence: Evidence, value: float) -> str:
    """A score as people say it."""
    return f"{value:.2%}" if evidence.in_points else f"{value:.4f}"


def amount(evidence: Evidence, value: float) -> str:
    """A difference of scores as people say it."""
    return f"{100 * value:.2f} points" if evidence.in_points else f"{value:.4f}"


def signed(evidence: Evidence, interval: Interval) -> tuple[str, str]:
    """A drop, and the ends of its interval, for a table."""
    factor, digits = (100, 2) if evidence.in_points else (1, 4)
    low, middle, high = (
        f"{factor * end + 0.0:+.{digits}f}" for end in (interval.low, interval.estimate, interval.high)
    )
    return middle, f"{low} to {high}"


def chain(evidence: Evidence, file: FileEvidence) -> list[tuple[str, str, str]]:
    """The steps from the model as it was brought to a file: each one's score, and what it cost, as people say them."""
    factor, digits = (100, 2) if evidence.in_points else (1, 4)
    sign = -1 if evidence.lower_is_better else 1
    rows, before = [], None
    for step, score in evidence.chain(file):
        cost = "" if before is None else f"{sign * factor * (before - score.estimate) + 0.0:+.{digits}f}"
        rows.append((step, level(evidence, score.estimate), cost))
        before = score.estimate
    return rows


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit, bytes_in_it in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= bytes_in_it:
            return f"{count / bytes_in_it:.1f} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("s", 1), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def count(number: float) -> str:
    """A number with its thousands apart."""
    return f"{number:,.0f}"


def figures_of(evidence: Evidence) -> "dict[str, Figure]":
    """Every plot of the evidence by file name: drops, sizes and latencies, and what is confused.

    Confusions are those of the file that MLflow asks by default, and of its teacher.
    """
    figures = {
        **({} if evidence.heads else {"drops": plots.drops(evidence)}),
        "pareto": plots.pareto(evidence),
        "sizes_and_latencies": plots.sizes_and_latencies(evidence),
    }
    for each in evidence.by_head.values():
        served, of = each.served(), f"_of_{each.name}" if each.name else ""
        if of:
            figures[f"drops{of}"] = plots.drops(each)
        if served.confusion:
            figures[f"recall_by_class{of}"] = plots.recall_by_class(each, served)
            figures[f"confusion{of}"] = plots.confusion(each, served)
            figures[f"confusion_teacher{of}"] = plots.confusion(each, each.teacher(served.target))
    return figures


def lay_out(evidence: Evidence, folder: Path) -> None:
    """Fill a folder with `evidence.json`, `index.html` and `plots/*.png`."""
    write_evidence(evidence, folder)
    figures = figures_of(evidence)
    (folder / PLOTS).mkdir()
    for name, figure in figures.items():
        figure.savefig(folder / PLOTS / f"{name}.png")
    (folder / PAGE).write_text(render_page(evidence, figures), encoding="utf-8")


def lay_out_report(evidence: Evidence, about: About, folder: Path, plotted: Path) -> None:
    """Fill a folder with the page that tells of a whole compression, and with its plots as `plots/*.png`.

    Args:
        evidence: what was measured.
        about: what is told beside it.
        folder: that is filled.
        plotted: the folder of the same evidence, whose plots are taken as they are.

    """
    (folder / PLOTS).mkdir(parents=True)
    for plot in (plotted / PLOTS).iterdir():
        shutil.copyfile(plot, folder / PLOTS / plot.name)
    curves = {stage: plots.learning_curves(epochs, evidence.score) for stage, epochs in about.curves.items()}
    for stage, curve in curves.items():
        curve.savefig(folder / PLOTS / f"learning_curves_{stage}.png")
    (folder / PAGE).write_text(render_page(evidence, figures_of(evidence), about, curves), encoding="utf-8")


def render_page(
    evidence: Evidence,
    figures: "Mapping[str, Figure]",
    about: About | None = None,
    curves: "Mapping[str, Figure]" = MappingProxyType({}),
) -> str:
    """The evidence as one HTML page with its plots inside, which follows the reader's light or dark scheme."""
    return (
        templates()
        .get_template("evidence.html")
        .render(evidence=evidence, figures=_drawn(figures), about=about, curves=_drawn(curves))
    )


def _drawn(figures: "Mapping[str, Figure]") -> dict[str, "Markup"]:
    from markupsafe import Markup

    return {name: Markup(as_svg(figure, name)) for name, figure in figures.items()}  # noqa: S704  made here, escaped by Matplotlib


def as_svg(figure: "Figure", name: str) -> str:
    """A figure as SVG to put in a page: its ids are its own, texts are texts, and ink takes the page's colour."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in ((plots.INK, "ink"), (plots.GRID, "grid")):
        svg = svg.replace(color, f"var(--{variable})")
    return svg


@cache
def templates() -> "jinja2.Environment":
    """The templates, with HTML escaped, and the words that they use."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words: tuple[Callable[..., Any], ...] = (verdicts, chain, level, signed, titled, size, duration, count, as_cell)
    environment.globals |= {word.__name__: word for word in words}
    environment.globals |= {"TARGET_NAMES": TARGET_NAMES, "ROLE_NAMES": ROLE_NAMES}
    return environment


def as_cell(value: object) -> str:
    """A text as Markdown that can neither leave its table cell nor become markup."""
    text = " ".join(str(value).split())
    text = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same names as a table in Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([as_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
