"""Programs in processes of their own: with this very code, whatever lies in the folder that they work in."""

import os
import sys
from pathlib import Path

from flows.shipped import ROOT

BIN = Path(sys.executable).parent


def python(*words: str) -> list[str]:
    """The command that starts this Python. With -P a user's `tasks.py` in the working folder is not ours."""
    return [sys.executable, "-P", *words]


def environment() -> dict[str, str]:
    """What such programs inherit: -P for those that they start in turn, and where a checkout's code lies."""
    settings = {**os.environ, "PYTHONSAFEPATH": "1"}
    if ROOT.name not in ("site-packages", "dist-packages"):
        settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return settings
