"""A Keras model that a program has in memory, of Keras 2 or 3, written to a file in its own Keras' format."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import ModelError
from tasks.formats.keras import files
from tasks.formats.keras3.files import is_keras3


def keep_model(model: Any, folder: Path) -> Path:
    """Write a model to a file that its architecture and weights name, unless it is there; returns it.

    Keras' own archive has the date in it, so that the same model written twice is two files to everyone who compares
    their bytes; therefore it is written once.

    Args:
        model: of Keras 2 (tf-keras) or Keras 3; its optimizer is of no matter.
        folder: where the file goes; made if it is not there.

    Raises:
        ModelError: it is no Keras model, or one whose code only its own program has.

    """
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not hasattr(model, "to_json") or not hasattr(model, "get_weights"):
        raise ModelError("model", kind, "is no Keras model; give one, or leave it out and name it in the recipe")
    try:
        digest = hashlib.sha256(model.to_json().encode())
        for weight in model.get_weights():
            digest.update(f"{weight.dtype.str} {weight.shape} ".encode())
            digest.update(np.ascontiguousarray(weight).tobytes())
        return _kept(model, folder / digest.hexdigest())
    except (NotImplementedError, TypeError, ValueError) as error:  # what Keras answers to a model that is only code
        raise ModelError(
            "model",
            kind,
            f"cannot be written to a file ({' '.join(str(error).split())[:200]}); name the function that builds it in "
            "the recipe: teacher.model: package.module:function",
        ) from error


def _kept(model: Any, place: Path) -> Path:
    file = place / ("model.keras" if is_keras3(model) else files.FILE)
    if not file.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as beside:
            if is_keras3(model):
                model.save(Path(beside) / file.name)
            else:
                files.write(model, Path(beside))
            place.mkdir(exist_ok=True)
            (Path(beside) / file.name).replace(file)
    return file
