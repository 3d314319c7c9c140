"""What stays on the screen: sentences, tables and pages, at any width of a terminal, and in a file."""

import os
import re
import sys
import textwrap
from collections.abc import Collection, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

ENDLESS = 10_000  # columns where no terminal ends a line: files are searched by line, and wrap when they are looked at
GAP = 3  # columns between two of a table: what the box draws
SHORT = 16  # columns of a text that is not worth a second line
HANG = 2  # columns by which what does not fit is set in

Row = dict[str, str]


def screen(*, stderr: bool = False) -> Console:
    """Standard output or error: as wide as its terminal, endless where it is none; moving lines only on a real one."""
    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty():
        return Console(stderr=stderr, width=ENDLESS, force_interactive=False)
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):  # rich takes these to have 80 columns, always
        size = os.get_terminal_size(stream.fileno())
        return Console(stderr=stderr, width=size.columns or 80, height=size.lines or 25)
    return Console(stderr=stderr)


def say(console: Console, text: str, *, style: str = "", mark: str = "", hang: int = HANG) -> None:
    """Print lines that wrap between words; a longer word, such as a path, is left whole for who copies it.

    Args:
        console: where.
        text: as it is: no markup.
        style: of all of it.
        mark: another style, of the first character.
        hang: columns by which wrapped lines are set in.

    """
    shown = Text(fitted(text, console.width, hang), style=style)
    if mark:
        shown.stylize(mark, 0, 1)
    console.print(shown, soft_wrap=True, highlight=False)


def fitted(text: str, width: int, hang: int = HANG) -> str:
    """Every line of a text, wrapped between words to so many columns."""
    lines = []
    for line in text.splitlines():
        lines += textwrap.wrap(
            line, max(width, hang + 1), subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def copyable(console: Console, text: str, *, style: str = "") -> None:
    """Print one line for people to copy: where it is too long the terminal wraps it, which its clipboard undoes."""
    console.print(Text(f"  {text}", style=style), soft_wrap=True, highlight=False)


def tabulate(
    console: Console, rows: Sequence[Row], keys: Collection[str], right: Collection[str] = (), strong: str = ""
) -> None:
    """Rows as one table; where that is too wide, as several; where one more column is too wide for these, as blocks.

    No figure is cut off at any width.

    Args:
        console: where.
        rows: texts by column, every row with the same columns.
        keys: the columns that tell rows apart, first; every table has them.
        right: the columns that end flush.
        strong: what a row's first text ends with if the row is to stand out.

    """
    names = list(rows[0])
    tables = [names] if _widths(rows, names, console.width) else _parts(rows, names, keys, console.width)
    stands_out = [bool(strong) and row[names[0]].endswith(strong) for row in rows]
    for part in tables:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name, wide in _widths(rows, part, console.width).items():
            table.add_column(name, width=wide, justify="right" if name in right else "left")
        for row, bold in zip(rows, stands_out, strict=True):
            table.add_row(*(Text(row[name]) for name in part), style="bold" if bold else "")
        console.print(table)
        console.print()
    if not tables:
        for row, bold in zip(rows, stands_out, strict=True):
            _block(console, row, keys, bold=bold)


def _widths(rows: Sequence[Row], names: Sequence[str], room: int) -> dict[str, int]:
    """Columns that a table takes, by name, in so much room: words stay whole, and a line becomes two at most.

    Nothing if there is too little room.
    """
    wide, least = {}, {}
    for name in names:
        texts = [name, *(row[name] for row in rows)]
        wide[name] = max(map(cell_len, texts))
        least[name] = max(min(wide[name], SHORT), *(cell_len(word) for text in texts for word in [*text.split(), ""]))
        while any(len(textwrap.wrap(text, least[name] or 1)) > 2 for text in texts):
            least[name] += 1
    room -= GAP * (len(names) - 1)
    if sum(least.values()) > room:
        return {}
    while sum(wide.values()) > room:
        wide[max((name for name in names if wide[name] > least[name]), key=wide.__getitem__)] -= 1
    return wide


def _parts(rows: Sequence[Row], names: Sequence[str], keys: Collection[str], room: int) -> list[list[str]]:
    """Columns shared out among tables, each of which fits with the keys in front; none if one does not."""
    parts: list[list[str]] = []
    for name in names:
        if name in keys:
            continue
        if parts and _is_whole(rows, [*parts[-1], name], room):
            parts[-1].append(name)
        else:
            parts.append([*keys, name])
    return parts if all(_is_whole(rows, part, room) for part in parts) else []


def _is_whole(rows: Sequence[Row], names: Sequence[str], room: int) -> bool:
    """Whether columns fit beside each other with no line wrapped."""
    return sum(max(cell_len(row[name]) for row in (*rows, {name: name})) + GAP for name in names) - GAP <= room


def _block(console: Console, row: Row, keys: Collection[str], *, bold: bool) -> None:
    """One row below its heading, a line a figure."""
    say(console, ", ".join(row[name] for name in keys if row[name]), style="bold" if bold else "underline")
    figures = {name: text for name, text in row.items() if name not in keys and text}
    widest = max(map(cell_len, figures), default=0)
    for name, text in figures.items():
        say(console, f"  {name:<{widest}}  {text}", hang=4)
    console.print()


def page(console: Console, markdown: str) -> None:
    """A page of ours at a terminal; in a file it stays the Markdown that it is.

    Ours hold headings, tables, paragraphs, links, and commands in fences.
    """
    if not console.is_terminal:
        console.file.write(f"{markdown.rstrip()}\n")
        return
    for number, part in enumerate(re.split(r"```\w*\n(.*?)```\n?", markdown, flags=re.DOTALL)):
        if number % 2:
            for command in part.splitlines():
                copyable(console, command)
            console.print()
            continue
        for block in re.split(r"\n{2,}", part.strip()):
            if block.startswith("|"):
                _markdown_table(console, block)
            elif block:
                say(console, _plain(block).lstrip("# "), style="bold" if block.startswith("#") else "", hang=0)
                console.print()


def _markdown_table(console: Console, block: str) -> None:
    head, rule, *lines = ([cell.strip() for cell in line.strip("| ").split(" |")] for line in block.splitlines())
    names = [_plain(name) for name in head] + [""] * (len(rule) - len(head))
    right = [name for name, dashes in zip(names, rule, strict=True) if dashes.endswith("-:")]
    rows = [dict(zip(names, [*map(_plain, line), *[""] * len(names)], strict=False)) for line in lines]
    tabulate(console, rows, names[:1], right)


def _plain(markdown: str) -> str:
    """Without the marks of code and emphasis; a link's address stands behind its text."""
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1: \2", markdown).replace("`", "").replace("**", "")
