"""What the terminal shows while a compression runs, and at its end."""

import time

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.report import Compression, as_rows
from tasks.progress import RunLog

TABLE = 128  # columns that the closing table takes; a narrower terminal wraps it
QUIET = 3.0  # seconds between lines of one training where there is no terminal to redraw


class Display:
    """A listener for one terminal: a line for each stage that ended, a bar with figures for the training that runs.

    Everything is told to the Prefect run's log as well.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.log = RunLog()
        self.bars = Progress(
            TextColumn("  [bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.bar: TaskID | None = None
        self.told = 0.0

    def started(self, stage: str) -> None:
        """Name the stage that works now."""
        self.log.started(stage)
        self.bars.start()
        self.bar = self.bars.add_task(stage, total=None, completed=0, figures="")
        if not self.console.is_terminal:
            self.console.print(f"  {stage} …", highlight=False)

    def epoch(self, stage: str, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Show an epoch's figures, and how long the rest takes at this pace."""
        self.log.epoch(stage, epoch, epochs, values)
        left = values.get("seconds", 0.0) * (epochs - epoch)
        shown = [
            f"{name.replace('_', ' ')} {values[name]:.4f}" for name in ("loss", "validation_score") if name in values
        ]
        figures = ", ".join([*shown, f"at most {duration(left)} left"])
        if self.bar is not None:
            self.bars.update(self.bar, total=epochs, completed=epoch, figures=figures)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.told > QUIET or epoch == epochs):
            self.told = now
            self.console.print(f"    epoch {epoch}/{epochs}: {figures}", highlight=False)

    def note(self, stage: str, message: str) -> None:
        """Print a line that stays."""
        self.log.note(stage, message)
        self.console.print(f"[dim]- {stage}: {message}[/dim]", highlight=False)

    def finished(self, stage: str, seconds: float, reused_from: str) -> None:
        """Print how a stage ended."""
        self.log.finished(stage, seconds, reused_from)
        self.stop()
        how = f"reused from run {reused_from[:8]}" if reused_from else duration(seconds)
        self.console.print(f"[green]✓[/green] {stage}: {how}", highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bars.remove_task(self.bar)
            self.bar = None
        self.bars.stop()


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def show(console: Console, result: Compression, next_steps: list[tuple[str, str]]) -> None:
    """The closing table, and what to type next."""
    rows = as_rows(result.score, result.figures)
    table = Table(
        title=f"{result.name} version {result.version}",
        caption="* is what ships; drop: below the teacher, with its interval; p50: median at batch 1; "
        "integers: share of multiply-accumulates",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in rows[0]:
        table.add_column(column, no_wrap=True, justify="left" if column in ("model", "target", "numbers") else "right")
    for row in rows:
        table.add_row(*row.values(), style="bold" if row["model"].endswith("*") else "")
    Console(file=console.file, width=max(console.width, TABLE)).print(table)
    for purpose, command in next_steps:
        console.print(f"{purpose}:", style="dim")
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
