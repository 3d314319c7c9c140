"""A search with successive halving beside the same one that trains all of its trials: seconds, and the two fronts.

    python -m benchmarks.search_halving [recipe] [--trials 8] [--seed 11]

Both are `slimline search` in the shipped space, one after the other, each in a state folder of its own. Writes a table
to `benchmarks/results/search_halving.md` and the figures beside it as JSON.
"""

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.say import say
from flows.recipe_file import read_recipe, read_space
from flows.shipped import RECIPES, ROOT, SPACES
from tasks.measuring.machine import describe_machine, load_average
from tasks.search.front import front, values
from tasks.search.space import Space
from tasks.search.study import Outcome, Trial

RESULTS = Path(__file__).parent / "results"
WAYS = {"all trained": (), "halved": (0.1, 0.3)}  # rungs
HIGHEST = 0.08  # a drop that is as bad as any larger one
Point = tuple[float, ...]


def searched(recipe: str, settings: Sequence[str], space: Space) -> dict[str, Any]:
    """One search's seconds, trials and winner."""
    with tempfile.TemporaryDirectory(prefix="slimline-halving-") as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(yaml.safe_dump(json.loads(space.model_dump_json(exclude_defaults=True)), sort_keys=False))
        environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "SLIMLINE_HOME": f"{folder}/state"}
        command = [sys.executable, "-m", "flows.cli", "search", recipe, str(file), *settings, "--json"]
        began, worked = time.monotonic(), processor_seconds()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds, worked = time.monotonic() - began, processor_seconds() - worked
        if done.returncode not in (0, 1):  # 1: none is inside the budget
            raise SystemExit(done.stderr)
        taken = json.loads(done.stdout)["trial"] if not done.returncode else 0
        (kept,) = (Path(folder) / "state" / "artifacts").glob("*/artifacts/trials.json")
        trials = json.loads(kept.read_text())
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(worked, 1),
        "taken": taken,
        "trials": trials,
    }


def processor_seconds() -> float:
    """What processes that have ended, and that this one began, took of all cores: other work leaves it as it is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def points_of(row: dict[str, Any], space: Space) -> dict[int, Point]:
    """Of the front's trials: the drop, and logarithms of size and of the share of the teacher's latency."""
    trials = [
        Trial(each["number"], each["settings"], Outcome.model_validate(each["outcome"])) for each in row["trials"]
    ]
    found: dict[int, Point] = {}
    for trial in front(trials, space.aims):
        drop, size, latency = values(trial, space.aims)
        found[trial.number] = (min(drop, HIGHEST), math.log(size), math.log(latency))
    return found


def volume(points: Sequence[Point], worst: Point) -> float:
    """What points dominate before the worst corner (the hypervolume of Zitzler and Thiele 1998), slice by slice."""
    inside = [point for point in points if all(a < b for a, b in zip(point, worst, strict=True))]
    if not inside:
        return 0.0
    if len(worst) == 1:
        return worst[0] - min(inside)[0]
    edges = [*sorted({point[0] for point in inside}), worst[0]]
    return sum(
        (after - edge) * volume([point[1:] for point in inside if point[0] <= edge], worst[1:])
        for edge, after in itertools.pairwise(edges)
    )


def as_markdown(rows: dict[str, Any], space: Space, about: str, machine: Any) -> str:
    """The table."""
    fronts = {way: points_of(row, space) for way, row in rows.items()}
    everywhere = [point for each in fronts.values() for point in each.values()]
    worst = (HIGHEST, *(max(column) + math.log(2) for column in list(zip(*everywhere, strict=True))[1:]))
    volumes = {way: volume(list(points.values()), worst) for way, points in fronts.items()}
    seconds, worked = (rows["halved"][each] / rows["all trained"][each] for each in ("seconds", "processor_seconds"))
    share = volumes["halved"] / volumes["all trained"]
    columns = ["search", "seconds", "processor seconds", "trained", "stopped", "not trained", "on the front"]
    columns += ["taken", "its drop", "its size", "its share of the teacher's latency"]
    lines = [
        "# Successive halving in a search",
        "",
        f"{about}, one search after the other. The halved one took **{seconds:.2f}** of the seconds "
        f"(**{worked:.2f}** of what processors worked), and its front has **{share:.2f}** of the hypervolume (drops "
        f"from {HIGHEST:g} on count as one; logarithms of size and latency, up to twice the largest on either front).",
        "",
        f"{machine.processor}, {machine.cores} cores; load {machine.load_before} before.",
        "",
        f"| {' | '.join(columns)} |",
        f"| --- {'| ---: ' * (len(columns) - 1)}|",
    ]
    for way, row in rows.items():
        hows = [trial["outcome"]["how"] for trial in row["trials"]]
        taken = row["trials"][row["taken"] - 1]["outcome"]["files"][0] if row["taken"] else None
        cells = [
            way,
            f"{row['seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
            hows.count("measured"),
            hows.count("stopped"),
            hows.count("rejected") + hows.count("failed"),
            len(fronts[way]),
            row["taken"] or "none",
            f"{taken['drop']['estimate']:+.4f}" if taken else "",
            f"{taken['size_bytes'] / 1024:.1f} KiB" if taken else "",
            f"{1 / taken['speedup']['estimate']:.2f}" if taken else "",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search both ways."""
    words = argparse.ArgumentParser()
    words.add_argument("recipe", nargs="?", default="digits")
    words.add_argument("--trials", type=int, default=8)
    words.add_argument("--seed", type=int, default=11)
    options = words.parse_args()
    settings = [f"seed={options.seed}"]
    recipe, load, rows = read_recipe(RECIPES[options.recipe], settings), load_average(), {}
    shipped = read_space(SPACES["default"]).model_copy(update={"trials": options.trials, "batch": 8})
    for way, rungs in WAYS.items():
        rows[way] = searched(options.recipe, settings, shipped.model_copy(update={"rungs": rungs}))
        say(f"{way}: {rows[way]['seconds']:.0f} s")
    machine = describe_machine(load)
    about = f"`{options.recipe}`, seed {options.seed}, the shipped space, {options.trials} trials"
    content = {"machine": machine.model_dump(), "recipe": recipe.model_dump(mode="json"), "rows": rows}
    for ending, text in (
        ("json", json.dumps(content, indent=1) + "\n"),
        ("md", as_markdown(rows, shipped, about, machine)),
    ):
        beside = RESULTS / f".search_halving.{ending}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(RESULTS / f"search_halving.{ending}")


if __name__ == "__main__":
    main()
