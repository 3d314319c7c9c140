"""Whether a recipe lives by a lucky seed: the same recipe under many, each with its own split of the data.

    python -m benchmarks.seeds deployments/recipes/digits.yaml [--seeds 20] [--first 1] [field=value ...]

The stages run as plain functions, and the budget is checked as a run checks it. Writes a table to
`benchmarks/results/seeds.md` and the figures beside it as JSON, after each seed, so that what was measured stays.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.plain import compressed
from benchmarks.say import say
from flows.budget import breaches
from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from tasks.measuring.machine import describe_machine, load_average

RESULTS = Path(__file__).parent / "results"


def measured(recipe: Recipe) -> dict[str, Any]:
    """One compression's figures: each shipped file's by target, and what of the budget is not kept."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slimline-seeds-") as folder:
        evidence = compressed(recipe, Path(folder))
    files = {
        file.target: {
            "teacher": evidence.teacher(file.target).accuracy.estimate,
            "score": file.accuracy.estimate,
            "drop": file.drop.model_dump(),
            "smaller": evidence.teacher(file.target).size_bytes / file.size_bytes,
            "faster": file.speedup.model_dump(),
            "integers": file.integer_share,
            "agreement": file.parity.agreement,
        }
        for file in evidence.files
        if file.shipped
    }
    return {
        "seed": recipe.seed,
        "examples": evidence.examples,
        "files": files,
        "not_kept": breaches(recipe.budget, evidence),
        "seconds": round(time.monotonic() - began, 1),
    }


def as_markdown(rows: list[dict[str, Any]], path: str, settings: list[str], machine: Any) -> str:
    """The table: the file that leaves least room of each seed, and the first target's size and speed."""
    kept = sum(not row["not_kept"] for row in rows)
    worst = [max(file["drop"]["high"] for file in row["files"].values()) for row in rows]
    libraries = ", ".join(f"{name} {machine.libraries[name]}" for name in ("onnxruntime", "ai-edge-litert"))
    lines = [
        f"# {len(rows)} seeds of one recipe",
        "",
        f"`{' '.join([path, *settings])}`, each seed with weights, batches and a split of its own; "
        f"{rows[0]['examples']:,} test examples. The budget was kept by **{kept} of {len(rows)}**; the largest bad end "
        f"of a drop is {max(worst):+.4f}, the median {sorted(worst)[len(worst) // 2]:+.4f}.",
        "",
        f"{machine.processor}, {machine.cores} cores, {', '.join(machine.instruction_sets)}; "
        f"load {machine.load_before} before. {libraries}.",
        "",
        "| seed | teacher | its worst file | drop (interval) | smaller | faster | integers | seconds | kept |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        first = next(iter(row["files"].values()))
        file = max(row["files"].values(), key=lambda each: each["drop"]["high"])
        drop, faster = file["drop"], first["faster"]
        limits = {line.split(" = ")[0].removeprefix("budget.") for line in row["not_kept"]}
        lines.append(
            f"| {row['seed']} | {file['teacher']:.4f} | {file['score']:.4f} | {drop['estimate']:+.4f} "
            f"({drop['low']:+.4f} to {drop['high']:+.4f}) | {first['smaller']:.1f}x | {faster['estimate']:.2f}x "
            f"({faster['low']:.2f} to {faster['high']:.2f}) | {first['integers']:.0%} | {row['seconds']:.0f} | "
            f"{'no: ' + ', '.join(sorted(limits)) if limits else 'yes'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure seed after seed."""
    words = argparse.ArgumentParser()
    words.add_argument("recipe", type=Path)
    words.add_argument("settings", nargs="*", metavar="field=value")
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--first", type=int, default=1)
    words.add_argument("--name", default="seeds", help="of the files in benchmarks/results")
    options = words.parse_intermixed_args()
    load, rows = load_average(), []
    for seed in range(options.first, options.first + options.seeds):
        recipe = read_recipe(options.recipe, [*options.settings, f"seed={seed}", f"data.split_seed={seed}"])
        row = measured(recipe)
        rows.append(row)
        ends = ", ".join(f"{target} {file['drop']['high']:+.4f}" for target, file in row["files"].items())
        say(f"seed {seed}: bad ends of the drop {ends}; {'kept' if not row['not_kept'] else row['not_kept']}")
        machine = describe_machine(load)
        content = {"machine": machine.model_dump(), "recipe": recipe.model_dump(mode="json"), "rows": rows}
        for ending, text in (
            ("json", json.dumps(content, indent=1) + "\n"),
            ("md", as_markdown(rows, os.path.relpath(options.recipe), options.settings, machine)),
        ):
            beside = RESULTS / f".{options.name}.{ending}"
            beside.write_text(text, encoding="utf-8")
            beside.replace(RESULTS / f"{options.name}.{ending}")


if __name__ == "__main__":
    main()
