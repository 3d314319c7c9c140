"""Our row: the teacher cut down by channel pruning, and the version that `slimline run` makes of it and registers."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kept import reporter
from benchmarks.say import say
from tasks.channels.config import ChannelConfig
from tasks.data import Dataset
from tasks.fit import FitConfig
from tasks.formats import keras
from tasks.objectives import Teaching
from tasks.prune import PruneConfig, prune

if TYPE_CHECKING:
    import tensorflow as tf

RECIPE = Path(__file__).parent / "ours.yaml"
SEED = 1


def pruning(epochs: int) -> PruneConfig:
    """How the teacher is cut: widths that are multiples of 16, by the filters' norms, and trained under the teacher."""
    return PruneConfig(
        method="channels",
        channels=ChannelConfig(of="macs", remove=0.7, criterion="l1", multiple=16),
        fit=FitConfig(
            epochs=epochs,
            batch_size=128,
            optimizer="sgd",
            learning_rate=0.05,
            schedule="cosine",
            weight_decay=0.002,
        ),
    )


def student(teacher: "tf.keras.Model", came_from: Path, data: Dataset, epochs: int, kept: Path) -> Path:
    """The folder of the teacher cut down, kept under a name that tells what it was made from; a killed one goes on.

    Args:
        teacher: what is cut, and what teaches.
        came_from: its folder, whose name stands for all that made it.
        data: what is learned.
        epochs: of training after the cut.
        kept: the folder that holds the folders.

    """
    config = pruning(epochs)
    treatment = [data.config.flip, data.config.shift, data.config.brightness]
    made_from = [came_from.name, data.digest, treatment, config.model_dump(mode="json"), SEED]
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    folder = kept / f"student-{key[:12]}"
    if (folder / keras.FILE).exists():
        say(f"student: cut and trained before, {folder.name}")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    history: list[dict[str, float]] = []
    tell = reporter("student")

    def report(epoch: int, of: int, values: dict[str, float]) -> None:
        history.append(values)
        tell(epoch, of, values)

    teaching = Teaching(temperature=4.0, mix=0.5)
    model = prune(
        teacher, data, config, teacher=teacher, teaching=teaching, seed=SEED, report=report, checkpoints=folder
    )
    (folder / "training.json").write_text(json.dumps(history, indent=1) + "\n")
    keras.write(model, folder)  # last: what is there is whole
    return folder


def registered(teacher: Path, student: Path, data: Path, images: int, state: Path) -> tuple[Path, float]:
    """The registered version's folder, made by `slimline run` from the two models, and how many seconds that took.

    Args:
        teacher: the folder of the float teacher.
        student: the folder of the teacher cut down.
        data: the folder with train.parquet and test.parquet.
        images: of each file; 0 takes all.
        state: where Slimline keeps its state; what was made there before is used again.

    Raises:
        RuntimeError: the run failed; says how.

    """
    settings = {
        "data.source": data / "train.parquet",
        "data.test_source": data / "test.parquet",
        "teacher.model": teacher / keras.FILE,
        "student.model": student / keras.FILE,
    }
    command = [sys.executable, "-m", "flows.cli", "run", str(RECIPE), "--json"]
    command += [f"{name}={path.absolute()}" for name, path in settings.items()] + [f"data.limit={images}"]
    began = time.monotonic()
    environment = {**os.environ, "SLIMLINE_HOME": str(state)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip()[-500:] or "it failed in silence")
    uri = json.loads(done.stdout)["uri"]
    say(f"ours: {uri}")
    program = "import sys; from tasks import tracking; print(tracking.download(sys.argv[1]))"
    found = subprocess.run(
        [sys.executable, "-c", program, uri], env=environment, capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip().splitlines()[-1]), time.monotonic() - began
