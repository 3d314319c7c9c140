"""A command in a process of its own, forked from one that has imported what takes longest: a kill lands in its work.

Prefect and what imports it are left to the command, as they read the environment once, when they are imported.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

import psutil

MARK = "SLIMLINE_CAMPAIGN"  # in the environment of whatever a command starts: how those are known from others'
ALONE, ALL, POWER = "alone", "with all that it began", "with all that it began and the servers"
_context = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """What the first command would import, before any begins."""
    _context.set_forkserver_preload(["tasks", "tensorflow", "mlflow", "onnx", "onnxruntime", "matplotlib.pyplot"])
    process = _context.Process(target=int)
    process.start()
    process.join()


@dataclass
class Command:
    """A command at work: its process leads a session of its own, and what it says goes into two files."""

    process: ForkServerProcess
    mark: str
    folder: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def said(self) -> str:
        """On standard error, which has the progress."""
        return (self.folder / f"{self.mark}.err").read_text(errors="replace")

    def printed(self) -> str:
        """On standard output."""
        return (self.folder / f"{self.mark}.out").read_text(errors="replace")

    def await_line(self, words: str, within: float) -> bool:
        """Wait until it has said or printed some words; false if it ended, or took too long."""
        while self.seconds < within:
            if words in self.said() or words in self.printed():
                return True
            if self.process.exitcode is not None:
                return False
            time.sleep(0.02)
        return False

    def wait(self, within: float) -> int | None:
        """Its exit code; none if it is still at work."""
        self.process.join(max(within, 0))
        return self.process.exitcode

    def kill(self, how: str) -> None:
        """With SIGKILL: its process alone, or at the same moment all that it began."""
        number = int(self.process.pid or 0)
        doomed = self.family() if how != ALONE else []
        os.kill(number, signal.SIGKILL)
        for process in doomed:
            _kill(process)
        self.process.join()

    def family(self) -> list[psutil.Process]:
        """Every process that it began and that is still there, without itself."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = os.getsid(process.pid) == self.process.pid or process.environ().get(MARK) == self.mark
                if mine and process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):  # ended meanwhile, or another user's
                continue
        return found

    def end_family(self) -> None:
        """End what is left of it."""
        for process in self.family():
            _kill(process)

    def __enter__(self) -> Self:
        """Its process, and what it began, last no longer than the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left."""
        self.process.kill()
        self.process.join()
        self.end_family()


def begin(words: list[str], mark: str, folder: Path) -> Command:
    """Start `slimline` with these words."""
    for ending in ("out", "err"):
        (folder / f"{mark}.{ending}").touch()
    process = _context.Process(target=_become, args=(words, {**os.environ, MARK: mark}, str(folder / mark)))
    process.start()
    return Command(process, mark, folder)


def _become(words: list[str], environment: dict[str, str], output: str) -> None:
    os.setsid()
    for descriptor, ending in ((1, "out"), (2, "err")):
        file = os.open(f"{output}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    from flows.cli import main

    code = main(words)
    # what Python does when a program ends, and multiprocessing leaves out
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.exit(code)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
