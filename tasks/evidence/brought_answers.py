"""What a model answered to the test split as it was brought, kept beside it: drops are counted from its score."""

from pathlib import Path

import numpy as np

from tasks.measuring.arrays import Outputs

FILE = "answers.npz"


def keep_answers(folder: Path, answers: Outputs, keras: str) -> None:
    """Put answers to the test split `(n, …)` in a folder, with what the model was made with, such as `Keras 3.12.0`."""
    np.savez_compressed(folder / FILE, answers=answers, keras=np.array(keras))


def kept_answers(folder: Path) -> tuple[Outputs, str]:
    """What `keep_answers` put in a folder whose digest was checked."""
    with np.load(folder / FILE) as kept:
        return kept["answers"], str(kept["keras"])
