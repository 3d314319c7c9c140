"""Where state lies on this machine: one folder, `.slimline/` here unless `SLIMLINE_HOME` names another."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def home() -> Path:
    """The state folder, absolute; made if it is not there."""
    folder = Path(os.environ.get("SLIMLINE_HOME") or ".slimline").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder to write in that becomes `folder` when the block ends well, and is gone when it does not.

    Written beside, then renamed: whoever looks finds the whole of it or nothing. A folder that is already there wins,
    because names are by content.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{uuid4().hex}"
    beside.mkdir()
    try:
        yield beside
        if not folder.exists():
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
