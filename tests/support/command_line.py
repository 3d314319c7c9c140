"""The command line in a state folder of its own, as a person would use it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from servers import Servers

ROOT = Path(__file__).parents[2]

TINY = {
    "name": "tiny",
    "seed": 3,
    "data": {"reader": "digits", "limit": 600, "test": 0.25},
    "teacher": {"model": "cnn", "width": 0.5, "fit": {"epochs": 8, "batch_size": 32, "learning_rate": 0.005}},
    "student": {"model": "cnn", "width": 0.25},
    "distill": {"method": "soft_targets", "fit": {"epochs": 8, "batch_size": 32, "learning_rate": 0.005}},
    "prune": {"method": "magnitude", "sparsity": 0.5, "fit": {"epochs": 2, "batch_size": 32}},
    "quantize": {"method": "training", "calibration_examples": 64, "fit": {"epochs": 1, "batch_size": 32}},
    "validate": {"latency_rounds": 20, "latency_seconds": 1},
    "budget": {"max_accuracy_drop": 1.0},
    "promote": {"tolerance": 1.0},
}


def started(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """A command at work; what it says comes out of `stderr`, and its group can be killed."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_at(process: "subprocess.Popen[str]", line: str, later: float = 0.0) -> None:
    """Kill a command, and with it the server it started, some seconds after it has said a line."""
    for printed in process.stderr:
        if re.search(line, printed):
            break
    else:
        raise AssertionError(f"ended without saying {line!r}: exit code {process.wait()}")
    time.sleep(later)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def of_its_own(state: Path) -> dict[str, str]:
    """The environment of a command whose servers and store are those of a state folder."""
    others = ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "PYTHONWARNINGS")
    return {name: value for name, value in os.environ.items() if name not in others} | {"SLIMLINE_HOME": str(state)}


class Slimline:
    """`slimline run` with a recipe; alone, or with servers that are up."""

    def __init__(self, folder: Path, servers: Servers | None = None) -> None:
        self.folder = folder
        self.servers = servers
        self.state = folder / "state"
        self.artifacts = servers.artifacts if servers else self.state / "artifacts"
        self.environment = of_its_own(self.state)
        if servers:
            self.environment["PREFECT_API_URL"] = f"{servers.urls['prefect']}/api"
            self.environment["MLFLOW_TRACKING_URI"] = servers.urls["mlflow"]

    def command(self, settings: dict, *options: str, python: tuple[str, ...] = ()) -> list[str]:
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings))
        return [sys.executable, *python, "-m", "flows.cli", "run", str(recipe), "--json", *options]

    def run(self, settings: dict, *options: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.ended(self.command(settings, *options, python=python))

    def ended(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """Any command of its state folder, when it is over."""
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=1200)

    def result(self, settings: dict, *options: str) -> dict:
        done = self.run(settings, *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, settings: dict, *options: str) -> "subprocess.Popen[str]":
        """Without waiting for it: see `started`."""
        return started(self.command(settings, *options), self.environment)
