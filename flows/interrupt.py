"""Ctrl-C, over within seconds at any moment.

Python raises `KeyboardInterrupt` in its main thread, where it undoes what was begun. That thread hears of it when
native code lets go of it, which may be minutes later, and what it undoes may wait for a server. So a thread of its own
hears of the signal at once, through the descriptor that Python writes a signal's number to, and gives the main thread
some seconds; then it ends the process. That loses nothing: what is finished is in the store already.
"""

import atexit
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from tasks.store.process import is_gone, this_process

AGAIN = signal.SIGUSR1  # Ctrl-C for the main thread alone: a second SIGINT would be a person's who does not wait
PREFIX, OWNER = "slimline-", ".process"  # of the folder of temporary files, and the file in it that says whose it is
EXIT_CODE = 128 + signal.SIGINT  # what shells make of it
SOON = 1.0  # seconds in which most of what can be interrupted is undone; after them a person is asked to wait
PATIENCE = 2.5  # seconds that the main thread has in all
CLOSING, LAST = 1.5, 0.5  # seconds after that to close what runs, and for each of two last steps: 5 s are the promise

_heard: list[float] = []  # when, in seconds since 1970
_said = threading.Lock()  # taken for good by whoever tells how it ended
_telling = threading.Lock()


def heard() -> float:
    """When Ctrl-C was pressed, in seconds since 1970, else 0: whatever has failed since may have failed of that."""
    return _heard[0] if _heard else 0.0


@contextmanager
def heeded(close: Callable[[], None], say: Callable[[], None], wait: Callable[[], None]) -> Iterator[None]:
    """While the block lasts, Ctrl-C ends this process within five seconds, a second one at once.

    Temporary files of the block lie in a folder that goes with it, in either way; where a process was killed the next
    one removes it. The program ends behind the block: Ctrl-C there ends it without a word, as all is shown by then.
    Where SIGINT is ignored, as in a script's background, it stays so.

    Args:
        close: writes down that what runs was stopped. Called if the main thread does not come to it soon, in another
            thread, and maybe in both.
        say: tells the person; called then too, unless `once` was.
        wait: tells the person that it takes longer, in another thread.

    """
    _remove_left()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        (Path(folder) / OWNER).write_text(this_process())
        before, tempfile.tempdir = tempfile.tempdir, folder
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            _listen(close, wait, (lambda: once(say), lambda: shutil.rmtree(folder, ignore_errors=True)))
        try:
            yield
        finally:
            tempfile.tempdir = before
            if not heard() and signal.getsignal(signal.SIGINT) == _interrupt:
                signal.signal(signal.SIGINT, signal.SIG_DFL)


def _remove_left() -> None:
    """Remove the temporary files of processes of this machine that were killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError, ValueError):  # another user's, or gone meanwhile; or just about to be written
            if is_gone(owner.read_text()):
                shutil.rmtree(owner.parent, ignore_errors=True)


def once(tell: Callable[[], None]) -> None:
    """Call it, unless something was shown through here before."""
    if _said.acquire(blocking=False):
        with _telling:
            tell()


def _unless_said(tell: Callable[[], None]) -> None:
    with _telling:
        if not _said.locked():
            tell()


def _listen(close: Callable[[], None], wait: Callable[[], None], last: tuple[Callable[[], None], ...]) -> None:
    atexit.register(_leave)  # before any library's, and so called after them
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    sys.unraisablehook = _raise_again
    signal.signal(AGAIN, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    threading.Thread(target=_wait, args=(reader, close, wait, last), name="interrupt", daemon=True).start()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What Python does, when it is already known why: libraries make errors of their own of the exception."""
    _heard.append(time.time())
    signal.default_int_handler(number, frame)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came in a destructor or its like, which lets no exception out: once more, just behind it."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    main = threading.main_thread().ident
    threading.Timer(0.02, signal.pthread_kill, (main, AGAIN)).start()  # at once it would be lost in here


def _leave() -> None:
    """End the process here if it was interrupted: what native libraries take down after this takes seconds."""
    if heard():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def _wait(
    reader: int, close: Callable[[], None], wait: Callable[[], None], last: tuple[Callable[[], None], ...]
) -> None:
    """Hear Ctrl-C, wait for the main thread, and end the process without it."""
    _pressed(reader, None)
    _heard.append(time.time())
    began = time.monotonic()
    again = _pressed(reader, SOON)
    closing = _begun(close)  # the main thread may do so as well: it only has to be done once
    if not again:
        _begun(lambda: _unless_said(wait)).join(LAST)
        again = _pressed(reader, PATIENCE - (time.monotonic() - began))
    closing.join(LAST if again else CLOSING)
    for step in last:
        _begun(step).join(LAST)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(EXIT_CODE)


def _begun(step: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def _pressed(reader: int, seconds: float | None) -> bool:
    """Whether Ctrl-C is pressed within so many seconds; without a number it waits for it."""
    deadline = time.monotonic() + (seconds or 0)
    while True:
        left = None if seconds is None else max(deadline - time.monotonic(), 0)
        if not select.select([reader], [], [], left)[0]:
            return False
        if signal.SIGINT in os.read(reader, 64):
            return True
