"""What a person sees while stages run. A stage tells; who listens decides how it is shown.

By default it goes to the Prefect run's log, which is what its UI shows; the command line puts a live display there.
"""

import logging
from typing import Protocol


class Listener(Protocol):
    """Hears of every stage, in order, from whichever thread runs it."""

    def started(self, stage: str) -> None:
        """A stage begins to work (nothing in the store could be reused)."""

    def epoch(self, stage: str, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """One epoch (counted from 1) of at most `epochs` is over; `values` has its losses, scores and `seconds`."""

    def note(self, stage: str, message: str) -> None:
        """Something a person should know."""

    def page(self, stage: str, markdown: str) -> None:
        """Something to read in full before it goes on, such as a comparison that somebody has to approve."""

    def finished(self, stage: str, seconds: float, reused_from: str) -> None:
        """A stage has its artifact; `reused_from` is the MLflow run that made it, empty if it was made now."""


class RunLog:
    """Tells the log of the Prefect run that we are in, or Python's logging outside one."""

    @property
    def log(self) -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
        """The Prefect run's logger where there is one."""
        from prefect.exceptions import MissingContextError
        from prefect.logging import get_run_logger

        try:
            return get_run_logger()
        except MissingContextError:
            return logging.getLogger("slimline")

    def started(self, stage: str) -> None:
        """Log the start."""
        self.log.info("%s: started", stage)

    def epoch(self, stage: str, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Log the epoch's figures."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.log.info("%s: epoch %d of at most %d: %s", stage, epoch, epochs, figures)

    def note(self, stage: str, message: str) -> None:
        """Log the note."""
        self.log.info("%s: %s", stage, message)

    def page(self, stage: str, markdown: str) -> None:
        """Log the page."""
        self.log.info("%s:\n%s", stage, markdown)

    def finished(self, stage: str, seconds: float, reused_from: str) -> None:
        """Log how it ended."""
        how = f"reused from run {reused_from}" if reused_from else "done"
        self.log.info("%s: %s in %.1f s", stage, how, seconds)


_listener: Listener = RunLog()


def listener() -> Listener:
    """Whoever is listening in this process."""
    return _listener


def listen(new: Listener) -> None:
    """Put another listener in place for this process."""
    global _listener
    _listener = new
