"""Our rows: the versions that `slimline run` makes of the float teacher, and registers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.say import say
from tasks.evidence.evidence import open_evidence

FACTS = """
import json, sys
from tasks.store import tracking
uri, *runs = sys.argv[1:]
infos = [tracking.client().get_run(run).info for run in runs]
seconds = sum(info.end_time - info.start_time for info in infos) / 1000
print(json.dumps({"folder": str(tracking.download(uri)), "seconds": seconds}))
"""


@dataclass(frozen=True)
class Ours:
    """A registered version: its folder, the seconds of the stages that made it, and the student's parameters."""

    folder: Path
    seconds: float
    parameters: int


def registered(recipe: Path, settings: Mapping[str, object], state: Path) -> Ours:
    """What a recipe's run makes; one that was killed goes on, and what was made before is used again.

    Args:
        recipe: its file.
        settings: what is set besides.
        state: where Slimline keeps its state.

    Raises:
        RuntimeError: the run failed; its output says why.

    """
    command = [sys.executable, "-m", "flows.cli", "run", str(recipe), "--json"]
    command += [f"{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "SLIMLINE_HOME": str(state)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)  # its progress is for a person
    if done.returncode:
        raise RuntimeError(f"slimline run {recipe.name} ended with {done.returncode}")
    result = json.loads(done.stdout)
    say(f"ours: {result['uri']}")
    command = [sys.executable, "-c", FACTS, result["uri"], *result["runs"].values()]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    facts = json.loads(printed.stdout.splitlines()[-1])
    shipped = next(file for file in open_evidence(Path(result["evidence"]).parent).files if file.shipped)
    return Ours(Path(facts["folder"]), facts["seconds"], shipped.parameters)
