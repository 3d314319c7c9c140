"""Registered versions of a tiny model, made by the real flow in seconds each, in a state folder of their own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stores import forget

RECIPE = {
    "name": "tiny",
    "data": {"reader": "digits", "limit": 600, "test": 0.25},
    "teacher": {"model": "cnn", "width": 0.25, "fit": {"epochs": 8, "batch_size": 32, "learning_rate": 0.01}},
    "distill": {"method": "none"},
    "prune": {"method": "none"},
    "quantize": {"method": "none"},
    "targets": ["onnxruntime"],
    "validate": {"latency_rounds": 20},
    "budget": {"max_accuracy_drop": 0.05},
    "promote": {"tolerance": 0.15},  # 150 test examples leave wide intervals
}


@contextmanager
def versions(home: Path, empty_store: Path, *settings: dict) -> Iterator[None]:
    """Versions 1, 2, … of `tiny`, each with these settings changed, in `home`, which is the state folder meanwhile."""
    from flows.compression import compress
    from flows.recipe_file import check_settings

    shutil.copy(empty_store, home / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(home)
    forget()
    try:
        for changed in settings:
            compress(check_settings({**RECIPE, **changed}))
        yield
    finally:
        os.environ["SLIMLINE_HOME"] = before
        forget()
