"""Where a training stands after an epoch, kept so that one that was killed goes on there."""

import io
import json
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

CHECKPOINT = "training.npz"
Values = dict[str, float]


@dataclass
class Progress:
    """Where a training stands after an epoch: all of what the next one depends on but the arrays."""

    epoch: int = 0
    best_epoch: int = 0
    best: tuple[float, float] = (-math.inf, -math.inf)  # validation score, then how small the validation loss was
    history: list[Values] = field(default_factory=list)


def save(
    folder: Path, identity: str, progress: Progress, state: "Sequence[tf.Variable]", best: Sequence[np.ndarray]
) -> None:
    """Everything that the next epoch depends on, in one file that is there as a whole or not at all."""
    arrays = {f"state{number}": variable.numpy() for number, variable in enumerate(state)}
    arrays |= {f"best{number}": value for number, value in enumerate(best)}
    arrays["progress"] = np.frombuffer(json.dumps({"identity": identity, **asdict(progress)}).encode(), np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    beside = folder / f".{CHECKPOINT}"
    beside.write_bytes(buffer.getbuffer())
    os.replace(beside, folder / CHECKPOINT)


def resume(
    folder: Path | None, identity: str, state: "Sequence[tf.Variable]", count: int
) -> tuple[Progress, list[np.ndarray]]:
    """Put the variables back to where a checkpoint of this very training has them, if there is one that can be read."""
    file = folder / CHECKPOINT if folder is not None else None
    if file is None or not file.is_file():
        return Progress(), []
    try:
        with np.load(file, allow_pickle=False) as arrays:
            progress = json.loads(arrays["progress"].tobytes())
            if progress.pop("identity") != identity:
                return Progress(), []
            values = [arrays[f"state{number}"] for number in range(len(state))]
            best = [arrays[f"best{number}"] for number in range(count)] if progress["best_epoch"] else []
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return Progress(), []  # cut off by a power failure, or of another version: as if there were none
    for variable, value in zip(state, values, strict=True):
        variable.assign(value)
    progress["best"] = tuple(progress["best"])
    return Progress(**progress), best
