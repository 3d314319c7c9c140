"""Where state lies on this machine: one folder, `.slimline/` here unless `SLIMLINE_HOME` names another."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """The state folder, absolute; made if it is not there."""
    folder = Path(os.environ.get("SLIMLINE_HOME") or ".slimline").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(file: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Holds a file that one thread or process of this machine can hold at a time; its end, however it comes, frees it.

    Args:
        file: made here, and removed when it is free; its folder is made too.
        waits: called once if another holds it.

    """
    file.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    while True:
        with file.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    waits()
                waited = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not os.fstat(handle.fileno()).st_nlink:
                continue  # who held it has removed it: what is locked is no longer the file of that name
            try:
                yield
            finally:
                file.unlink()
            return
