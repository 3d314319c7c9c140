"""What the terminal shows while a compression runs, and at its end."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.screen import copyable, page, say, tabulate
from tasks.contract.progress import RunLog

if TYPE_CHECKING:
    from flows.report import Measured

QUIET = 3.0  # seconds between lines of one training where there is no terminal to redraw
MARGIN = 3  # columns at the right that stay free: a terminal writes ^C behind what is there, and may not wrap for it
BAR = (6, 24)  # columns of a bar: fewer say nothing, more say no more
LEGEND = (
    "* is what ships; drop: below the teacher, with its interval (of several outputs in brackets); p50: median at "
    "batch 1; integers: share of multiply-accumulates"
)


@dataclass(frozen=True)
class Work:
    """What goes on now, and how far it is; `epochs` is 0 where nobody knows how much there is to do."""

    stage: str
    began: float
    epoch: int = 0
    epochs: int = 0
    figures: tuple[str, ...] = ()


class Display:
    """A listener for one terminal: a line for each stage that ended, a bar with figures for what is at work.

    Everything is logged by the Prefect run as well.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.log = RunLog()
        self.work = Work("", 0.0)
        self.live = Live(console=console, get_renderable=self._line, refresh_per_second=10, transient=True)
        self.done: list[str] = []
        self.printed = 0.0

    def preparing(self, what: str) -> None:
        """Show what goes on from here until something else does, or `stop`."""
        self.work = Work(what, time.monotonic())
        if self.console.is_interactive:
            self.live.start()
        else:
            say(self.console, f"  {what} …", hang=4)

    def started(self, stage: str) -> None:
        """Name the stage that works now."""
        self.log.started(stage)
        self.preparing(stage)

    def epoch(self, stage: str, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Show an epoch's figures, and how long the rest takes at this pace."""
        self.log.epoch(stage, epoch, epochs, values)
        left = values.get("seconds", 0.0) * (epochs - epoch)
        shown = [
            f"{name.replace('_', ' ')} {values[name]:.4f}" for name in ("loss", "validation_score") if name in values
        ]
        figures = (*shown, f"at most {duration(left)} left")
        self.work = replace(self.work, epoch=epoch, epochs=epochs, figures=figures)
        now = time.monotonic()
        if not self.console.is_interactive and (now - self.printed > QUIET or epoch == epochs):
            self.printed = now
            say(self.console, f"    epoch {epoch}/{epochs}: {', '.join(figures)}", hang=6)

    def note(self, stage: str, message: str) -> None:
        """Print a line that stays."""
        self.log.note(stage, message)
        say(self.console, f"- {stage}: {message}", style="dim")

    def page(self, stage: str, markdown: str) -> None:
        """Print a page that stays."""
        self.log.page(stage, markdown)
        page(self.console, markdown)

    def finished(self, stage: str, seconds: float, reused_from: str) -> None:
        """Print how a stage ended."""
        self.log.finished(stage, seconds, reused_from)
        self.done.append(stage)
        self.stop()
        how = f"reused from run {reused_from[:8]}" if reused_from else duration(seconds)
        say(self.console, f"✓ {stage}: {how}", mark="green")

    def stop(self) -> None:
        """Take the bar away."""
        self.live.stop()

    def kept(self) -> str:
        """What is kept of this run if it is stopped now, in words; empty if nothing was finished."""
        stages = ", ".join(dict.fromkeys(self.done))  # trials of a search have the same ones
        if not self.work.epoch or self.work.stage in self.done:
            return stages
        return f"{stages}; {self.work.epoch} of at most {self.work.epochs} epochs of {self.work.stage}".removeprefix(
            "; "
        )

    def _line(self) -> RenderableType:
        return line(self.work, time.monotonic() - self.work.began, self.console.width - MARGIN)


def line(work: Work, seconds: float, width: int) -> RenderableType:
    """Work as one line of at most so many columns: what does not fit is left out, the least telling first."""
    count = f"{work.epoch}/{work.epochs}" if work.epochs else ""
    minutes, rest = divmod(int(seconds), 60)
    clock = f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
    room = width - sum(len(text) + 2 for text in (work.stage, count, clock) if text)
    figures = list(work.figures)
    while figures and len(", ".join(figures)) + BAR[0] + 4 > room:
        figures.pop(0)
    shown = ", ".join(figures)
    room -= len(shown) + 4 if shown else 2
    cells: list[RenderableType] = [Text(f"  {work.stage}", "bold", no_wrap=True, overflow="ellipsis")]
    if room >= BAR[0]:
        done, total = (work.epoch, work.epochs) if work.epochs else (0, None)  # without a total the bar pulses
        cells.append(ProgressBar(total=total, completed=done, width=min(room, BAR[1])))
    cells += [Text(text, no_wrap=True, overflow="ellipsis") for text in (count, shown, clock) if text]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(*cells)
    return Constrain(grid, width)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def show(console: Console, result: "Measured", next_steps: list[tuple[str, str]]) -> None:
    """The closing table, and what to type next."""
    from flows.report import Compression, as_rows

    rows = as_rows(result.score, result.figures)
    texts = ("model", "target", "numbers")
    console.print()
    version = f"version {result.version}" if isinstance(result, Compression) else "was not registered"
    say(console, f"{result.name} {version}", style="bold")
    console.print()
    tabulate(console, rows, ("model", "target"), right=[name for name in rows[0] if name not in texts], strong="*")
    say(console, LEGEND, style="dim", hang=0)
    console.print()
    for purpose, command in next_steps:
        say(console, f"{purpose}:", style="dim")
        copyable(console, command)
