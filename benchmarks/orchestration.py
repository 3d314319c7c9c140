"""Where the time of a run goes: the stages themselves, or Prefect, MLflow and imports around them.

Each figure comes from a process of its own, in turn, in one sitting:

- plain: the stages' pure functions called one after another, without Prefect and MLflow
- run:   `slimline run` in an empty state folder
- again: `slimline run` once more, unchanged

Writes a table to `benchmarks/results/orchestration.md` and the raw figures beside it as JSON.

    python benchmarks/orchestration.py [--rounds 3] [--recipe deployments/recipes/digits.yaml]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def timed(command: list[str], environment: dict[str, str]) -> dict[str, object]:
    """Run a command to its end; its JSON with wall seconds and peak memory (bytes, the largest of its processes)."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate()
    wall = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{err}")
    return {**json.loads(out[out.index("{") :]), "wall": wall}


def peak_memory() -> int:
    """Bytes that the largest child so far took."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def measure(recipe: str, rounds: int) -> list[dict[str, Any]]:
    """Plain, run, again; in turn, `rounds` times."""
    measured = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="slimline-bench-") as state:
            environment = {**os.environ, "SLIMLINE_HOME": state}
            for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
                environment.pop(name, None)
            slimline = [sys.executable, "-m", "flows.cli", "run", recipe, "--json"]
            plain = timed([sys.executable, "benchmarks/plain.py", recipe], environment)
            run = timed(slimline, environment)
            again = timed(slimline, environment)
        measured.append({"plain": plain, "run": run, "again": again})
        print(
            f"round {number + 1}: plain {plain['wall']:.1f} s, run {run['wall']:.1f} s, again {again['wall']:.1f} s",
            flush=True,
        )
    return measured


def spread(values: list[float]) -> str:
    """Median with the smallest and largest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def render(measured: list[dict[str, Any]], recipe: str) -> str:
    """The table, in Markdown."""

    def column(which: str, name: str) -> list[float]:
        return [round_[which][name] for round_ in measured]

    plain, run, again = (column(which, "wall") for which in ("plain", "run", "again"))
    startup = column("run", "startup_seconds")
    added = [(r - s - p) / p for r, s, p in zip(run, startup, plain, strict=True)]
    stages = list(measured[0]["run"]["seconds"])
    lines = [
        "# Where the time of a run goes",
        "",
        f"`{recipe}`, {len(measured)} rounds in turn, median (smallest to largest), seconds.",
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}.",
        "",
        "| what | seconds | aim |",
        "| --- | ---: | --- |",
        f"| the stages as plain functions, imports included | {spread(plain)} | |",
        f"| `slimline run`, nothing reused | {spread(run)} | 180 |",
        f"| of that, fixed start-up: until the flow begins | {spread(startup)} | 15 |",
        f"| `slimline run` again, everything reused | {spread(again)} | 15 |",
        "",
        f"Orchestration and tracking add {statistics.median(added):.1%} ({min(added):.1%} to {max(added):.1%}) to the "
        "plain wall clock beyond the start-up (aim: less than 10%).",
        "",
        f"Neither training nor inference (imports, Prefect, MLflow, conversion): {outside(measured):.0%} of the run.",
        "",
        f"Peak memory of the largest process: {peak_memory() / 2**20:,.0f} MiB.",
        "",
        "| stage | in the flow | plain |",
        "| --- | ---: | ---: |",
    ]
    for stage in stages:
        flow = [round_["run"]["seconds"][stage] for round_ in measured]
        bare = [round_["plain"]["seconds"].get(stage) for round_ in measured]
        lines.append(f"| {stage} | {spread(flow)} | {spread(bare) if None not in bare else ''} |")
    return "\n".join(lines) + "\n"


def outside(measured: list[dict[str, Any]]) -> float:
    """Share of a run's wall clock that is neither training nor inference, by what the plain stages take."""
    work = ("train-", "distill", "prune", "quantize", "validate")
    shares: list[float] = []
    for round_ in measured:
        busy: float = sum(seconds for stage, seconds in round_["plain"]["seconds"].items() if stage.startswith(work))
        shares.append(1 - busy / float(round_["run"]["wall"]))
    return statistics.median(shares)


def processor() -> str:
    """The processor's name."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--recipe", default="deployments/recipes/digits.yaml")
    chosen = options.parse_args()
    measured = measure(chosen.recipe, chosen.rounds)
    RESULTS.mkdir(exist_ok=True)
    table = render(measured, chosen.recipe)
    (RESULTS / "orchestration.json").write_text(json.dumps(measured, indent=1))
    (RESULTS / "orchestration.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
