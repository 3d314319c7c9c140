"""The command line: understands what is typed, does it, and says how it ended, whether well, badly or by Ctrl-C."""

import io
import logging
import os
import shlex
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows import embedded, interrupt, programs
from flows.grammar import chosen
from tasks.contract.errors import SlimlineError
from tasks.contract.progress import listener
from tasks.contract.state_folder import home

if TYPE_CHECKING:
    from flows.display import Display


def main(arguments: Sequence[str] | None = None, failed: Callable[[SlimlineError], None] | None = None) -> int:
    """Run a command; returns 0 if all is well, 1 if a stage failed or the budget was not kept, 2 if input is wrong.

    130 says that Ctrl-C ended it.

    Args:
        arguments: what was typed; this process's own if none.
        failed: called with the failure that is shown, if there is one.

    """
    typed = sys.argv[1:] if arguments is None else [*arguments]
    say_stopped = partial(_say_stopped, typed)
    try:
        command = chosen(typed)
        embedded.settle()
        if command.own_signals:
            return _ended(command.work, say_stopped, failed)
        _hush()
        with interrupt.heeded(_give_up, say_stopped, _say_stopping):
            return _ended(command.work, say_stopped, failed)
    except KeyboardInterrupt:
        interrupt.once(say_stopped)
        return interrupt.EXIT_CODE


def _ended(
    work: Callable[[], int], say_stopped: Callable[[], None], failed: Callable[[SlimlineError], None] | None
) -> int:
    """A command's exit code, once a failure is shown if there was one."""
    try:
        return work()
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or interrupt.heard():  # libraries make other errors of it
            _give_up()
            interrupt.once(say_stopped)
            return interrupt.EXIT_CODE
        if isinstance(error, SlimlineError):
            _complain(str(error))
            if failed is not None:
                failed(error)
            return error.exit_code
        trace = home() / "traceback.txt"
        trace.write_text(traceback.format_exc())
        _complain(f"{type(error).__name__}: {error}")
        _complain(f"the traceback is in {trace}")
        return 1


def _complain(message: str) -> None:
    from flows.screen import say, screen

    say(screen(stderr=True), f"slimline: {message}")


def _give_up() -> None:
    """Write down what runs as stopped, if it came so far."""
    if "flows.record" in sys.modules:
        from flows.record import give_up

        give_up(interrupt.heard())


def _say_stopping() -> None:
    """Say that what was interrupted is not over yet, where the bar was: what is printed above one may bring it back."""
    from flows.screen import say, screen

    _take_bar_away()
    say(screen(stderr=True), "\nslimline: stopping; Ctrl-C again does not wait for it")


def _take_bar_away() -> "Display | None":
    """Whoever has drawn one, if it was drawn here."""
    from flows.display import Display

    shown = listener()
    if not isinstance(shown, Display):
        return None
    shown.stop()
    return shown


def _say_stopped(typed: Sequence[str]) -> None:
    """Say what Ctrl-C leaves, and how to go on."""
    from flows.screen import copyable, say, screen

    shown = _take_bar_away()
    kept = shown.kept() if shown and typed[0] in ("run", "search") else ""  # the others measure anew
    console = screen(stderr=True)
    say(console, f"slimline: stopped{f'; kept: {kept}' if kept else ''}")
    say(console, f"To {'go on from there' if kept else 'start again'}, type the same command:")
    copyable(console, shlex.join([*_program(), *typed]))


def _program() -> list[str]:
    """How this program was called, to be called so again."""
    called = sys.argv[0]
    if Path(called).name != "slimline":
        return [str(programs.BIN / "slimline")] if programs.INSTALLED else [sys.executable, "-m", "flows.cli"]
    return ["slimline" if shutil.which("slimline") == called else called]


def _hush() -> None:
    """Keep libraries' chatter off the terminal: the display says what happens, and Prefect's API still gets the log.

    TensorFlow's native part writes to file descriptor 2 before any of its settings count, so that descriptor leads to a
    file from here on, and Python's own standard error to where the descriptor led before.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a check mark is no reason to fail where the locale has none
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    log = os.open(home() / "native.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.simplefilter("ignore")
    for name in ("tensorflow", "absl", "tf2onnx", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
