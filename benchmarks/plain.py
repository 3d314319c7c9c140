"""The stages of a recipe as plain functions, without Prefect and MLflow; prints the seconds of each as JSON.

What `orchestration.py` compares a flow run with:

    python benchmarks/plain.py RECIPE.yaml
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from tasks.contract.artifact import Precision, Role

if TYPE_CHECKING:
    import tensorflow as tf

    from tasks.evidence.evidence import Evidence

SECONDS: dict[str, float] = {}


@contextmanager
def clock(stage: str) -> Iterator[None]:
    """Add what the block takes to the stage's seconds."""
    began = time.perf_counter()
    yield
    SECONDS[stage] = round(SECONDS.get(stage, 0) + time.perf_counter() - began, 3)


def compressed(recipe: Recipe, folder: Path) -> "Evidence":
    """Run every stage up to validate; the student is distilled and pruned, as the shipped recipes have it.

    Args:
        recipe: what to do.
        folder: an empty one, for checkpoints and files.

    """
    seed, teaching = recipe.seed, recipe.distill.teaching

    def made(name: str) -> Path:
        """A folder of that name."""
        (folder / name).mkdir()
        return folder / name

    def silent(epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Nobody watches."""

    with clock("prepare"):
        from tasks.data import open_data

        data = open_data(recipe.data)
    with clock("train-teacher"):
        from tasks.train import train
        from tasks.zoo import build_model

        teacher = train(
            build_model(recipe.teacher, data, seed=seed),
            data,
            recipe.teacher.fit,
            seed=seed,
            report=silent,
            checkpoints=made("a"),
        )
    with clock("distill"):
        from tasks.distill import distill

        student = build_model(recipe.student, data, seed=seed)
        student = distill(student, teacher, data, recipe.distill, seed=seed, report=silent, checkpoints=made("b"))
    with clock("prune"):
        from tasks.prune import prune

        pruned = prune(
            student,
            data,
            recipe.prune,
            teacher=teacher,
            teaching=teaching,
            seed=seed,
            report=silent,
            checkpoints=made("c"),
        )
    with clock(f"quantize-{recipe.quantize.route}"):
        from tasks.quantize import quantize

        quantized = quantize(
            pruned,
            data,
            recipe.quantize,
            teacher=teacher,
            teaching=teaching,
            seed=seed,
            report=silent,
            checkpoints=made("d"),
        )
    from tasks.convert import convert
    from tasks.formats.keras import files as keras
    from tasks.validate import MeasuredFile, validate

    measured = []
    route = recipe.quantize.route
    models: tuple[tuple[str, Role, tf.keras.Model, Precision], ...] = (
        ("teacher", "teacher", teacher, "float32"),
        ("student", "student", pruned, "float32"),
        (route, "compressed", quantized, recipe.quantize.result),
    )
    for name, role, model, precision in models:
        kept = folder / role
        kept.mkdir()
        keras.write(model, kept)
        for target in recipe.targets:
            file = folder / f"{role}-{target}"
            file.mkdir()
            with clock(f"convert-{name}-{target}"):
                convert(model, target, precision, file, data)
            measured.append(
                MeasuredFile(
                    role=role,
                    target=target,
                    precision=precision,
                    folder=file,
                    keras=kept,
                    sha256="0" * 64,
                    keras_sha256="",
                    shipped=role == "compressed",
                )
            )
    with clock("validate"):
        return validate(measured, data, recipe.validation, seed=seed)


if __name__ == "__main__":
    compressed(read_recipe(Path(sys.argv[1])), Path(tempfile.mkdtemp(prefix="slimline-plain-")))
    print(json.dumps({"seconds": SECONDS}))
