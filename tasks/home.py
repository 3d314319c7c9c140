"""Where state lies on this machine: one folder, `.slimline/` here unless `SLIMLINE_HOME` names another."""

import os
from pathlib import Path


def home() -> Path:
    """The state folder, absolute; made if it is not there."""
    folder = Path(os.environ.get("SLIMLINE_HOME") or ".slimline").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
