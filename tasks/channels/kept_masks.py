"""The masks that a cutting in steps has chosen, kept so that one that was killed goes on with the same channels.

Where time is measured a second measurement chooses others, and the training of a model of other widths begins anew.
"""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.channels.config import ChannelConfig, Goal
from tasks.channels.rules import ChannelMask

if TYPE_CHECKING:
    import tensorflow as tf


def identity(model: "tf.keras.Model", data: str, config: ChannelConfig, goal: Goal) -> str:
    """What a mask must have been chosen under: this model as it is before the cut, these data, this goal.

    Args:
        model: what is cut.
        data: the digest of what it is measured with.
        config: how much, and by which criterion.
        goal: what the shipped file is to be.

    """
    digest = hashlib.sha256(json.dumps([data, config.model_dump(mode="json"), goal.model_dump(mode="json")]).encode())
    for variable in model.weights:
        digest.update(str(variable.shape).encode() + np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def keep(folder: Path | None, step: int, identity: str, mask: ChannelMask) -> None:
    """Write the mask `(units,)` of a step (from 1) into a file that is there as a whole or not at all."""
    if folder is None:
        return
    buffer = io.BytesIO()
    np.savez(buffer, mask=mask, identity=np.array(identity))
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{_file(step)}"
    beside.write_bytes(buffer.getbuffer())
    os.replace(beside, folder / _file(step))


def kept(folder: Path | None, step: int, identity: str, units: int) -> ChannelMask | None:
    """The mask `(units,)` of a step (from 1), if it was chosen under this identity and can be read."""
    if folder is None:
        return None
    try:
        with np.load(folder / _file(step), allow_pickle=False) as arrays:
            mask: ChannelMask = arrays["mask"]
            same = str(arrays["identity"]) == identity
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # none yet, cut off by a power failure, or of another version: as if there were none
    return mask if same and mask.shape == (units,) and mask.dtype == np.bool_ else None


def _file(step: int) -> str:
    return f"mask{step}.npz"
