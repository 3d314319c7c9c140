"""Registered versions at a terminal: all, one, and two side by side."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console

from flows.display import LEGEND
from flows.report import as_rows, with_ends
from flows.screen import Row, copyable, say, tabulate
from flows.versions import FileFigures, Listed, SettingDifference, Shown, SideBySide
from tasks.versions.registered import ELSEWHERE

FIGURES = ("drop (interval)", "size", "p50", "speed-up", "integers")  # columns of a file, as a run ends with them
FLUSH = ("score", *FIGURES)


def list_page(console: Console, versions: Sequence[Listed], store: str) -> None:
    """A row a version: the file that MLflow asks of it."""
    if not versions:
        say(console, f"Nothing is registered in {store}: {ELSEWHERE}.")
        return
    tabulate(console, [_row(version) for version in versions], ("version",), right=FLUSH)
    say(console, LEGEND.partition("; ")[2], style="dim", hang=0)
    for version in versions:
        if version.problem:
            say(console, f"{_called(version)}: {version.problem}", style="yellow")


def show_page(console: Console, version: Shown) -> None:
    """All files' figures, where everything is, and what it was made from and by."""
    say(console, _called(version), style="bold")
    console.print()
    _lines(
        console,
        {
            "aliases": ", ".join(version.aliases) or "none",
            "registered": f"{version.registered_at:%Y-%m-%d %H:%M} UTC",
            **{f"promoted {name}": value for name, value in version.promoted.items()},
            **({"approved by": version.approved_by} if version.approved_by else {}),
            **{f"deployed to {server}": how for server, how in version.deployed.items()},
        },
    )
    if version.problem:
        say(console, version.problem, style="yellow")
        console.print()
    if version.figures:
        rows = as_rows(version.score, list(version.figures))
        texts = ("model", "target", "numbers")
        right = [name for name in rows[0] if name not in texts]
        tabulate(console, rows, ("model", "target"), right=right, strong="*")
        say(console, LEGEND, style="dim", hang=0)
        console.print()
    for heading, lines in (
        ("Made from, by sha256", {step: digest[:12] for step, digest in version.parents.items()}),
        ("Its recipe sets", version.settings),
    ):
        if lines:
            say(console, f"{heading}:", style="bold")
            _lines(console, lines)
    places = {"Evidence": version.evidence, "Recipe": version.recipe, "MLflow": version.mlflow_url}
    for purpose, place in places.items():
        if place:
            say(console, f"{purpose}:", style="dim")
            copyable(console, place)


def compare_page(console: Console, both: SideBySide) -> None:
    """A table a target, then one of the settings that differ."""
    say(console, " and ".join(map(_called, both.versions)), style="bold")
    a, b = both.versions
    names = [f"version {each.version}" if a.name == b.name else _called(each) for each in both.versions]
    console.print()
    shipped = [{file.target: file for file in version.figures if file.shipped} for version in both.versions]
    score = " and ".join(dict.fromkeys(version.score for version in both.versions))
    for target in dict.fromkeys(target for files in shipped for target in files):
        sides = [_side(files.get(target), score) for files in shipped]
        rows = [
            {"": figure, **{name: side.get(figure, "") for name, side in zip(names, sides, strict=True)}}
            for figure in dict.fromkeys(figure for side in sides for figure in side)
        ]
        say(console, target, style="bold")
        tabulate(console, rows, ("",), right=names)
    for note in both.notes:
        say(console, f"- {note}")
    console.print()
    if not both.recipe:
        say(console, "Their recipes are the same.")
        return
    say(console, "Their recipes differ in:", style="bold")
    tabulate(console, [_difference(each, names) for each in both.recipe], ("setting",))


def _row(version: Listed) -> Row:
    file = version.default
    figures = as_rows(version.score, [file])[0] if file else {}
    return {
        "version": f"{version.name} {version.version}",
        "aliases": ", ".join(version.aliases),
        "registered (UTC)": f"{version.registered_at:%Y-%m-%d %H:%M}",
        "target": file.target if file else "",
        "numbers": file.precision if file else "",
        "score": f"{version.score} {file.score:.4f}" if file else "",
        **{name: figures.get(name, "") for name in FIGURES},
    }


def _side(file: FileFigures | None, score: str) -> Row:
    """One version's file in one column; its teacher's are what drop and speed-up are against."""
    if file is None:
        return {"numbers": "no file"}
    figures = as_rows(score, [file])[0]
    times = "" if file.speedup_low is None else f" ({file.speedup_low:.2f} to {file.speedup_high:.2f})"
    answers = {
        score: f"{file.score:.4f} ({file.score_low:.4f} to {file.score_high:.4f})",
        "drop": figures.get("drop (interval)", ""),
    }
    for name, each in file.heads.items():
        answers[f"{name} {each.metric}"] = f"{each.score:.4f}"
        answers[f"{name} drop"] = with_ends(each.drop, each.drop_low, each.drop_high)
    if file.heads:
        del answers[score], answers["drop"]
    return {
        "numbers": file.precision,
        **answers,
        "size": figures["size"],
        "p50": figures["p50"],
        "speed-up": f"{figures['speed-up']}{times}",
        "integers": figures["integers"],
    }


def _difference(each: SettingDifference, names: Sequence[str]) -> Row:
    values = ("not there" if value is None else value for value in each.values)
    return {"setting": each.setting, **dict(zip(names, values, strict=True))}


def _lines(console: Console, lines: Row) -> None:
    """Names and texts, a line each; a text with a word that does not fit beside the names stands below its own."""
    widest = max(map(cell_len, lines))
    for name, text in lines.items():
        if widest + 4 + max(map(cell_len, [*text.split(), ""])) > console.width:
            say(console, f"  {name}")
            say(console, f"    {text}", hang=4)
        else:
            say(console, f"  {name:<{widest}}  {text}", hang=widest + 4)
    console.print()


def _called(version: Listed) -> str:
    return f"{version.name} version {version.version}"
