"""Where state lies on this machine: one folder, `.slimline/` here unless `SLIMLINE_HOME` names another."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def home() -> Path:
    """The state folder, absolute; made if it is not there."""
    folder = Path(os.environ.get("SLIMLINE_HOME") or ".slimline").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(file: Path, waits: Callable[[], None], patience: float = -1) -> Iterator[None]:
    """Locks a file for one thread or process of this machine at a time; its end, however it comes, unlocks it.

    Args:
        file: made here, and removed when it is unlocked; its folder is made too.
        waits: called once if another has it locked.
        patience: seconds to wait for it then; for ever if it is negative.

    Raises:
        OSError: the file system cannot lock files. A mark in its place would outlive a process that was killed.
        TimeoutError: another had it locked all the time.
        RuntimeError: this thread has it locked already.

    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, fallback_to_soft=False)
    try:
        locked = lock.acquire(blocking=False)
    except Timeout:
        waits()
        locked = lock.acquire(timeout=patience)
    with locked:
        try:
            yield
        finally:
            file.unlink()  # while it is locked: who waits sees that the file has lost its name, and takes the next one
