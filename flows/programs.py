"""Programs in processes of their own: with this very code, whatever lies in the folder that they work in."""

import os
import sys
from pathlib import Path

from flows.shipped import ROOT

BIN = Path(sys.executable).parent
INSTALLED = ROOT.name in ("site-packages", "dist-packages")  # else it is a checkout


def python(*words: str) -> list[str]:
    """The command that starts this Python. With -P a user's `tasks.py` in the working folder is not ours."""
    return [sys.executable, "-P", *words]


def environment() -> dict[str, str]:
    """What such programs inherit: this process's environment, and where its code lies if that is a checkout."""
    if INSTALLED:
        return {**os.environ}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
