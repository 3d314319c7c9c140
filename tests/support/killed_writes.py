"""A search that is killed at its writes to the study's database, again and again, until it comes to its end."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Writes to the database, one after the other: at which of them the process is gone.
PROGRAM = """
import importlib, os, sys
from optuna.storages import RDBStorage

left = [int(sys.argv[1])]

def killed(write):
    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return write(*args, **kwargs)
    return counted

for name in ("create_new_trial", "set_trial_param", "set_trial_user_attr", "set_trial_system_attr",
             "set_study_user_attr", "set_trial_state_values"):
    setattr(RDBStorage, name, killed(getattr(RDBStorage, name)))
sys.path[:0] = sys.argv[3:]
importlib.import_module(sys.argv[2]).search_to_its_end()
"""


def kills_until_done(module: Path, writes: Iterator[int]) -> int:
    """How often `search_to_its_end` of a test's module was killed, each time at the write after so many."""
    paths = [str(folder) for folder in (ROOT, ROOT / "tests" / "support", module.parent)]
    for kills, count in enumerate(writes):
        command = [sys.executable, "-c", PROGRAM, str(count), module.stem, *paths]
        done = subprocess.run(command, cwd=ROOT, timeout=120)
        if done.returncode == 0:
            return kills
        assert done.returncode == 9
    raise AssertionError("it does not come to its end")
