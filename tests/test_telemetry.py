"""Nothing of ours tells MLflow's makers what it is used for, unless the person's environment says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What would switch it off without us: pytest's own name, CI's, and the wish of the person who runs the tests.
ELSEWHERE = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS")


def disabled(module: str, **wish: str) -> str:
    """Whether MLflow's telemetry is off in a process that imports a module of ours first."""
    script = f"import {module}; from mlflow.telemetry.utils import is_telemetry_disabled as off; print(off())"
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**environment, **wish},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_importing_any_of_ours_switches_it_off():
    """`tasks.store.tracking` alone imports MLflow, and some programs import nothing else of ours."""
    assert disabled("tasks.store.tracking") == "True"


@pytest.mark.parametrize("wish", ["false", "true"])
def test_the_person_decides(wish):
    assert disabled("tasks.store.tracking", MLFLOW_DISABLE_TELEMETRY=wish) == str(wish == "true")
