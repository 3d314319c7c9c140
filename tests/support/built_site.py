"""The documentation's site, built as `make docs` does."""

import subprocess
import sys
from pathlib import Path

from pages import ROOT


def build(place: Path) -> None:
    """Put it into a folder; a warning is a failure."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
