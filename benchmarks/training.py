"""What training costs beside plain Keras: epochs of both on the same arrays, in turn, in one sitting.

- keras:           `model.fit` on arrays, with validation; as Keras comes, without determinism
- ours:            a stage's training: resumable, deterministic, with progress, checkpoints and MLflow
- keras changed:   `model.fit` on a tf.data pipeline with Keras' own flip, translation and brightness
- ours changed:    the same changes, drawn anew each epoch
- taught:          ours, and a teacher of twice the width, whose answers are kept
- taught views:    ours changed with fixed views, and the teacher's answers to them kept
- taught asked:    ours changed anew each epoch, so that the teacher has to be asked at each step

Each is a process of its own, which waits while another has its turn. The first epoch traces the graphs, and asks the
teacher where its answers are kept: it stands in a column of its own. Then the memory of a distilled training on so
many rows and on ten times as many, in memory and streamed.

Writes a table to `benchmarks/results/training.md` and the raw figures beside it as JSON.

    python -m benchmarks.training [--rows 12288] [--rounds 10] [--memory-rows 6000]
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

import tasks  # noqa: F401  sets which Keras TensorFlow has
from benchmarks.say import say
from tasks.data import DataConfig, Dataset, open_data
from tasks.measuring.machine import describe_machine, load_average
from tasks.measuring.timing import ratio_interval
from tasks.store import tracking
from tasks.store.stage import StageRun
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Objective, Teaching, plain, supervised
from tasks.training.teacher_answers import taught_by
from tasks.zoo import ModelConfig, build_model

if TYPE_CHECKING:
    import tensorflow as tf

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
SEED = 0
BATCH = 128
CHANGES: dict[str, Any] = {"flip": True, "shift": 4, "brightness": 0.1}
ARMS: dict[str, dict[str, Any]] = {
    "keras": {},
    "ours": {},
    "keras changed": CHANGES,
    "ours changed": CHANGES,
    "taught": {},
    "taught views": {**CHANGES, "views": 1},
    "taught asked": CHANGES,
}
PAIRS = (  # what is compared with what, and how much more it may cost
    ("ours", "keras", "5%"),
    ("ours changed", "keras changed", ""),
    ("taught", "ours", "15%"),
    ("taught views", "ours changed", "15%"),
    ("taught asked", "ours changed", ""),
)
SHORT = """What an epoch of ours costs beside its steps, the pipeline that is built for it, a checkpoint and a call to
MLflow, is some 0.2 s whatever its length. With 2,868 images it is seen: there ours took 9.9% (-6.4% to +17.3%) more
than `model.fit` (20 epochs of each, the same machine and day)."""
DID_NOT_PAY = """Tried for a training step of a ResNet-8 of twice the width (batch 128, rows a second), and not taken:
nothing, 504; op determinism, which we keep for its bits, 490; oneDNN's bfloat16 arithmetic, 489; `mixed_bfloat16`, 383;
without oneDNN, 195; XLA (`jit_compile`), 192. Measured on a Xeon with AVX-512 and no AMX, two cores."""


def write_data(file: Path, rows: int) -> None:
    """So many images of CIFAR-10's shape that can be learned: noise, and a square whose place is the label."""
    draws = np.random.default_rng(SEED)
    x = draws.integers(0, 160, (rows, 32, 32, 3), dtype=np.uint8)
    y = draws.integers(0, 10, rows)
    for label in range(10):
        row, column = divmod(label, 5)
        x[y == label, 16 * row : 16 * row + 8, 6 * column : 6 * column + 6] += 90
    np.savez(file, x=x, y=y)


def wait() -> float:
    """Until it is this process' turn; the moment when it came."""
    if not sys.stdin.readline():
        raise SystemExit(0)  # nobody asks any more
    return time.perf_counter()


class Turn:
    """Tells the seconds of each epoch, and waits for the next turn."""

    def __init__(self) -> None:
        self.next()

    def next(self) -> None:
        """Wait for it."""
        self.began = wait()
        self.worked = time.process_time()

    def over(self, **more: float) -> None:
        """An epoch is over, and all that belongs to it; `more` is told of it too."""
        seconds, worked = time.perf_counter() - self.began, time.process_time() - self.worked
        print(json.dumps({"seconds": seconds, "processor": worked, "peak": peak_memory(), **more}), flush=True)
        self.next()


def peak_memory() -> int:
    """Most bytes that this process took."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(arm: str, file: Path, epochs: int, architecture: str, width: float, memory_mib: int) -> None:
    """One process: epochs of one arm, each when it is asked for."""
    data = open_data(DataConfig(reader="npz", source=str(file), memory_mib=memory_mib, **ARMS[arm]))
    model = build_model(ModelConfig(model=architecture, width=width), data, seed=SEED)
    if arm.startswith("keras"):
        by_keras(model, data, epochs)
        return
    objective = supervised(plain("classification", 1.0))
    if arm.startswith("taught"):
        teacher = build_model(ModelConfig(model=architecture, width=2 * width), data, seed=SEED + 1)
        objective = taught_by(data, teacher, Teaching(), stage="distill")
    ours(model, data, epochs, objective)


def ours(model: "tf.keras.Model", data: Dataset, epochs: int, objective: Objective) -> None:
    """Train as a stage does: with progress, checkpoints and an MLflow run."""
    run_id = tracking.start_run("train", {tracking.ROLE: "stage"}, {})
    with tempfile.TemporaryDirectory() as checkpoints:
        run = StageRun("train", run_id, Path(checkpoints), Path(checkpoints), [])
        turn = Turn()

        def report(epoch: int, epochs: int, values: dict[str, float]) -> None:
            run.epoch(epoch, epochs, values)
            turn.over()

        config = FitConfig(epochs=epochs, batch_size=BATCH)
        fit(model, data, config, objective, seed=SEED, report=report, checkpoints=Path(checkpoints))


def by_keras(model: "tf.keras.Model", data: Dataset, epochs: int) -> None:
    """Train as Keras' guide does it."""
    import tensorflow as tf

    model.compile(tf.keras.optimizers.Adam(), "sparse_categorical_crossentropy", ["accuracy"])
    x, y = data.arrays("train")
    at_once = max(BATCH, 256)  # as ours validates
    options: dict[str, Any] = {"epochs": epochs, "verbose": 0, "validation_batch_size": at_once}
    options["validation_data"] = data.arrays("validation")
    turn = Turn()
    options["callbacks"] = [tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: turn.over())]
    if not data.config.flip:
        model.fit(x, y, batch_size=BATCH, **options)
        return
    layers, reach = tf.keras.layers, data.config.shift / x.shape[1]
    change = tf.keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(reach, reach, fill_mode="nearest"),
            layers.RandomBrightness(data.config.brightness),
        ]
    )
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH)
    batches = batches.map(lambda x, y: (change(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    model.fit(batches.prefetch(tf.data.AUTOTUNE), **options)


class Arm:
    """A process that trains an epoch when it is asked to."""

    def __init__(self, module: str, arm: str, file: Path, *options: object) -> None:
        command = [sys.executable, "-m", module, "--arm", arm, "--file", str(file), *map(str, options)]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the process
        environment = {**os.environ, "SLIMLINE_HOME": str(file.with_name(arm)), "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def epoch(self) -> dict[str, float]:
        """Seconds of the next epoch, and the most bytes that the process took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                figures: dict[str, float] = json.loads(line)
                return figures
        self.errors.seek(0)
        sys.exit(f"{self.process.args!r} ended:\n{self.errors.read()[-3000:]}")

    def end(self) -> None:
        """Ask for no more."""
        self.process.communicate()
        self.errors.close()


def measure(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Epochs of all arms in turn: the first of each, then `rounds` of them."""
    file = folder / "images.npz"
    write_data(file, rows)
    arms = {name: Arm("benchmarks.training", name, file, "--epochs", rounds + 1) for name in ARMS}
    epochs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    order = Random(SEED)
    for number in range(rounds + 1):
        for name in order.sample(list(arms), len(arms)):  # whoever ran before leaves the processor as it does
            epochs[name].append(arms[name].epoch())
        seconds = ", ".join(f"{name} {each[-1]['seconds']:.2f}" for name, each in epochs.items())
        say(f"epoch {number + 1} of {rounds + 1}: {seconds} s")
    for arm in arms.values():
        arm.end()
    return {
        "train_rows": open_data(DataConfig(reader="npz", source=str(file))).counts["train"],
        "first": {name: each[0]["seconds"] for name, each in epochs.items()},
        "seconds": {name: [figures["seconds"] for figures in each[1:]] for name, each in epochs.items()},
        "processor": {name: [figures["processor"] for figures in each[1:]] for name, each in epochs.items()},
    }


def measure_memory(folder: Path, rows: int) -> Iterator[dict[str, Any]]:
    """The most that a distilled training of a small model holds, in two epochs."""
    for count in (rows, 10 * rows):
        file = folder / f"images{count}.npz"
        write_data(file, count)
        size = 32 * 32 * 3 * count
        for name, memory_mib in (("in memory", math.ceil(size / 2**20) + 1), ("streamed", 16)):
            small = ("--epochs", 2, "--architecture", "cnn", "--width", 0.25, "--memory-mib", max(16, memory_mib))
            arm = Arm("benchmarks.training", "taught", file, *small)
            peak = [arm.epoch() for _ in range(2)][-1]["peak"]
            arm.end()
            say(f"{name}, {count:,} rows of {size / 2**20:.0f} MiB: peak {peak / 2**20:,.0f} MiB")
            yield {"way": name, "rows": count, "bytes": size, "peak": peak}


def render(results: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    machine = results["machine"]
    lines = [
        "# What training costs beside plain Keras",
        "",
        f"ResNet-8 on {results['train_rows']:,} training images of 32x32x3, batch {BATCH}, with validation each epoch; "
        f"{results['rounds']} epochs of each, in turn, after a first one; seed {SEED}. Seconds are medians (smallest "
        "to largest); those of all cores leave out what a shared machine's host takes meanwhile. "
        f"{machine['processor']}, {machine['usable_cores']} cores, "
        f"load {machine['load_before']:.1f} at the start, Python {platform.python_version()}, {results['date']}.",
        "",
        "| what | rows a second | an epoch | the first epoch |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, seconds in results["seconds"].items():
        middle = statistics.median(seconds)
        lines.append(
            f"| {name} | {results['train_rows'] / middle:,.0f} "
            f"| {middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | {results['first'][name]:.2f} |"
        )
    lines += [
        "",
        "| | takes more than | by (95% interval) | seconds of all cores | aim: at most |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for one, other, aim in PAIRS:
        more = []
        for seconds in (results["seconds"], results["processor"]):
            ratio = ratio_interval(np.array(seconds[one]), np.array(seconds[other]), seed=SEED)
            low, middle, high = (f"{end - 1:+.1%}" for end in (ratio.low, ratio.estimate, ratio.high))
            more.append(f"{middle} ({low} to {high})")
        lines.append(f"| {one} | {other} | {more[0]} | {more[1]} | {aim} |")
    lines += [
        "",
        SHORT,
        "",
        (__doc__ or "").split("\n\n")[1],
        "",
        "## Memory",
        "The most that the process of a distilled training holds, TensorFlow and MLflow with it; a small network.",
        "",
        "| examples | rows | MiB of examples | peak MiB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for each in results["memory"]:
        lines.append(
            f"| {each['way']} | {each['rows']:,} | {each['bytes'] / 2**20:,.0f} | {each['peak'] / 2**20:,.0f} |"
        )
    return "\n".join([*lines, "", "## What did not pay", DID_NOT_PAY, ""])


def main() -> None:
    """Measure, print, write; or be one of the processes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=12288)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--memory-rows", type=int, default=6000, help="more than 16 MiB of them, to be streamed")
    for name, kind, default in (
        ("--arm", str, ""),
        ("--file", Path, None),
        ("--epochs", int, 0),
        ("--architecture", str, "resnet8"),
        ("--width", float, 1.0),
        ("--memory-mib", int, 512),
    ):
        options.add_argument(name, type=kind, default=default, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.arm:
        work(chosen.arm, chosen.file, chosen.epochs, chosen.architecture, chosen.width, chosen.memory_mib)
        return
    load = load_average()
    with tempfile.TemporaryDirectory(prefix="slimline-bench-") as folder:
        results = measure(Path(folder), chosen.rows, chosen.rounds)
        results["memory"] = list(measure_memory(Path(folder), chosen.memory_rows)) if chosen.memory_rows else []
    results |= {"date": time.strftime("%Y-%m-%d"), "rounds": chosen.rounds, "seed": SEED}
    results["machine"] = describe_machine(load).model_dump(mode="json")
    RESULTS.mkdir(exist_ok=True)
    table = render(results)
    (RESULTS / "training.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "training.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
