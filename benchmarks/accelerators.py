"""What training on a GPU costs beside plain Keras: epochs of ResNet-50 at 224 pixels on the same images, in turn.

- keras: `model.fit` on a tf.data pipeline of the arrays, as Keras comes, without determinism
- ours:  a stage's training: resumable, deterministic, with progress, checkpoints and MLflow

each in float32 (TF32, as TensorFlow multiplies it there) and with mixed precision. Each is a process of its own, which
waits while another has its turn; its first epoch, which traces the graphs, stands in a column of its own.

Writes a table to `benchmarks/results/accelerators.md` and the raw figures beside it as JSON.

    python -m benchmarks.accelerators [--devices gpu] [--rows 4096] [--pixels 224] [--batch 128] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

import tasks  # noqa: F401  sets which Keras TensorFlow has
from benchmarks.say import say
from benchmarks.training import Arm, Turn
from tasks.data import DataConfig, Dataset, Split, open_data
from tasks.measuring.machine import describe_machine, load_average
from tasks.measuring.timing import ratio_interval
from tasks.store import tracking
from tasks.store.stage import StageRun
from tasks.training.devices import TrainingConfig, check_devices, on_processor, trained_on
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import plain, supervised

if TYPE_CHECKING:
    import tensorflow as tf

RESULTS = Path(__file__).parent / "results"
SEED = 0
CLASSES = 10
SPLITS: tuple[Split, ...] = ("train", "validation")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
ARMS = [f"{whose}, {precision}" for precision in PRECISIONS for whose in ("keras", "ours")]


def write_data(file: Path, rows: int, pixels: int) -> None:
    """So many images that can be learned: noise, and a square whose place is the label."""
    draws = np.random.default_rng(SEED)
    x = draws.integers(0, 160, (rows, pixels, pixels, 3), dtype=np.uint8)
    y = draws.integers(0, CLASSES, rows)
    high, wide = pixels // 2, pixels // 5
    for label in range(CLASSES):
        row, column = divmod(label, 5)
        x[y == label, high * row : high * (row + 1), wide * column : wide * (column + 1)] += 90
    np.savez(file, x=x, y=y)


def resnet50(pixels: int) -> "tf.keras.Model":
    """Keras' own, from its first weights, on raw images; its last layer in float32, as Keras' guide asks."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    layers = tf.keras.layers
    images = tf.keras.Input((pixels, pixels, 3), name="input")
    body = tf.keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=images.shape[1:])
    answers = layers.Dense(CLASSES, activation="softmax", dtype="float32", name="probabilities")
    return tf.keras.Model(images, answers(body(layers.Rescaling(1 / 127.5, offset=-1)(images))))


def by_keras(data: Dataset, options: argparse.Namespace, precision: str) -> None:
    """Train as Keras' guides do it: the images stay bytes until the model casts them."""
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy(precision)
    model = resnet50(options.pixels)
    model.compile(tf.keras.optimizers.Adam(), "sparse_categorical_crossentropy", ["accuracy"])
    with on_processor():
        train, validation = (of_bytes(*data.arrays(split)) for split in SPLITS)
        batches = train.shuffle(1024).batch(options.batch).prefetch(tf.data.AUTOTUNE)
        looked_at = validation.batch(max(options.batch, 256)).prefetch(tf.data.AUTOTUNE)  # as ours validates
    turn = Turn()
    over = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: turn.over(gpu=gpu_memory()))
    model.fit(batches, validation_data=looked_at, epochs=options.epochs, verbose=0, callbacks=[over])


def of_bytes(x: np.ndarray, y: np.ndarray) -> "tf.data.Dataset":
    """Images `(n, height, width, channels)` and labels `(n,)`, one by one."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x.astype(np.uint8), y))


def ours(data: Dataset, options: argparse.Namespace, precision: str) -> None:
    """Train as a stage does: with progress, checkpoints and an MLflow run."""
    run_id = tracking.start_run("train", {tracking.ROLE: "stage"}, {})
    training = TrainingConfig(devices=options.devices, precision=precision)
    with tempfile.TemporaryDirectory() as checkpoints, on_processor():
        model = resnet50(options.pixels)
        run = StageRun("train", run_id, Path(checkpoints), Path(checkpoints), [])
        turn = Turn()

        def report(epoch: int, epochs: int, values: dict[str, float]) -> None:
            run.epoch(epoch, epochs, values)
            turn.over(gpu=gpu_memory())

        config = FitConfig(epochs=options.epochs, batch_size=options.batch)
        where: dict[str, Any] = {"checkpoints": Path(checkpoints), "training": training}
        fit(model, data, config, supervised(plain("classification", 1.0)), seed=SEED, report=report, **where)


def gpu_memory() -> int:
    """Most bytes of the first GPU's memory that this process took."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if gpus else 0


def work(options: argparse.Namespace) -> None:
    """One process: epochs of one arm, each when it is asked for."""
    whose, precision = options.arm.split(", ")
    check_devices(TrainingConfig(devices=options.devices))
    data = open_data(DataConfig(reader="npz", source=str(options.file), memory_mib=4096))
    (by_keras if whose == "keras" else ours)(data, options, precision)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Epochs of all arms in turn: the first of each, then so many rounds."""
    epochs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    order = Random(SEED)
    with tempfile.TemporaryDirectory(prefix="slimline-bench-") as folder:
        file = Path(folder) / "images.npz"
        write_data(file, options.rows, options.pixels)
        given = ("--devices", options.devices, "--pixels", options.pixels, "--batch", options.batch)
        arms = {
            name: Arm("benchmarks.accelerators", name, file, *given, "--epochs", options.rounds + 1) for name in ARMS
        }
        for number in range(options.rounds + 1):
            for name in order.sample(ARMS, len(ARMS)):
                epochs[name].append(arms[name].epoch())
            seconds = ", ".join(f"{name} {each[-1]['seconds']:.2f}" for name, each in epochs.items())
            say(f"epoch {number + 1} of {options.rounds + 1}: {seconds} s")
        for arm in arms.values():
            arm.end()
        rows = open_data(DataConfig(reader="npz", source=str(file), memory_mib=4096)).counts["train"]
    return {"train_rows": rows, "epochs": epochs}


def render(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    machine, epochs = results["machine"], results["epochs"]
    lines = [
        "# What training on a GPU costs beside plain Keras",
        "",
        f"Keras' ResNet-50 on {results['train_rows']:,} training images of {results['pixels']}x{results['pixels']}x3, "
        f"batch {results['batch']}, with validation each epoch; {results['rounds']} epochs of each, in turn, after a "
        f"first one; seed {SEED}. Seconds are medians (smallest to largest). {results['trained_on']}; "
        f"{machine['processor']}, {machine['usable_cores']} cores, {results['date']}.",
        "",
        "| what | images a second | an epoch | the first epoch | most GPU memory |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    seconds = {name: [each["seconds"] for each in epochs[name][1:]] for name in ARMS}
    for name in ARMS:
        middle = statistics.median(seconds[name])
        lines.append(
            f"| {name} | {results['train_rows'] / middle:,.0f} "
            f"| {middle:.2f} ({min(seconds[name]):.2f} to {max(seconds[name]):.2f}) "
            f"| {epochs[name][0]['seconds']:.1f} | {epochs[name][-1]['gpu'] / 2**30:.1f} GiB |"
        )
    lines += ["", "| ours beside Keras | takes more by (95% interval) |", "| --- | ---: |"]
    for precision in PRECISIONS:
        one, other = (np.array(seconds[f"{whose}, {precision}"]) for whose in ("ours", "keras"))
        ratio = ratio_interval(one, other, seed=SEED)
        low, middle, high = (f"{end - 1:+.1%}" for end in (ratio.low, ratio.estimate, ratio.high))
        lines.append(f"| {precision} | {middle} ({low} to {high}) |")
    return "\n".join([*lines, "", (__doc__ or "").split("\n\n")[1], ""])


def main() -> None:
    """Measure, print, write; or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="gpu", help="as training.devices of a recipe")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    for name, kind in (("--arm", str), ("--file", Path), ("--epochs", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else the first process takes all that there is
    if options.arm:
        work(options)
        return
    load = load_average()
    results = measure(options)
    training = TrainingConfig(devices=options.devices)
    check_devices(training)
    results |= {"date": time.strftime("%Y-%m-%d"), "rounds": options.rounds, "seed": SEED, "batch": options.batch}
    results |= {"pixels": options.pixels, "trained_on": trained_on(training).partition(",")[0] or "the processor"}
    results["machine"] = describe_machine(load).model_dump(mode="json")
    RESULTS.mkdir(exist_ok=True)
    table = render(results)
    (RESULTS / "accelerators.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "accelerators.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
