"""Whether channel counts that are multiples of 4, 8 or 16 pay: one convolution between two others, at every width.

    python -m benchmarks.channels

Each width's file is timed in turn with the others of the same image size, in ONNX Runtime, in float and in 8-bit
integers. A width pays if it takes less time than a narrower one. Writes `benchmarks/results/channels.md` and `.json`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.say import say
from tasks.formats import FORMATS
from tasks.measuring.machine import describe_machine, load_average
from tasks.measuring.timing import time_in_turn
from tasks.quantization.fake_quantization import fake_quantized

RESULTS = Path(__file__).parent / "results"
SIZES = {32: range(8, 34, 1), 16: range(16, 66, 2), 8: range(32, 130, 4)}
MULTIPLES = (1, 2, 4, 8, 16)


def timed(size: int, widths: range, precision: str, rounds: int, seconds: float) -> dict[int, float]:
    """Median seconds of a 3x3 convolution of `width` to `width` channels on `size` x `size` images, by width."""
    import tensorflow as tf

    layers, draw = tf.keras.layers, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        calls = {}
        for width in widths:
            tf.keras.utils.set_random_seed(0)
            x = inputs = tf.keras.Input((size, size, 3), name="input")
            for name in ("before", "first", "second", "third", "fourth"):
                x = layers.Conv2D(width, 1 if name == "before" else 3, padding="same", activation="relu", name=name)(x)
            model = tf.keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
            examples = draw.normal(0, 1, (16, size, size, 3)).astype(np.float32)
            source = fake_quantized(model, examples) if precision == "int8" else model
            folder = Path(place) / str(width)
            folder.mkdir()
            FORMATS["onnxruntime"].write(source, folder, precision, classes=())
            calls[str(width)] = FORMATS["onnxruntime"].load(folder)
        times = time_in_turn(calls, examples[:1], rounds, 10, seconds)
    return {int(width): float(np.median(each)) for width, each in times.items()}


def excess(times: dict[int, float], multiple: int) -> float:
    """How much longer a channel takes at widths that are no multiple, beside those that are: a median ratio less one.

    Each width is compared with the straight line between the nearest multiples around it.
    """
    whole = sorted(width for width in times if width % multiple == 0)
    ratios = [
        times[width] / np.interp(width, whole, [times[each] for each in whole])
        for width in times
        if width % multiple and whole[0] < width < whole[-1]
    ]
    return float(np.median(ratios)) - 1 if ratios else 0.0


def wasted(times: dict[int, float]) -> list[int]:
    """Widths that take no less time than a wider one: what is wider is free."""
    return [width for width in times if any(other > width and times[other] <= times[width] for other in times)]


def main() -> None:
    """Measure, and write the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=300)
    options.add_argument("--seconds", type=float, default=60, help="longest timing of one image size and precision")
    options.add_argument("--results", type=Path, default=RESULTS)
    chosen = options.parse_args()
    load_before = load_average()
    results: dict[str, dict[int, float]] = {}
    for precision in ("int8", "float32"):
        for size, widths in SIZES.items():
            results[f"{precision} {size}x{size}"] = timed(size, widths, precision, chosen.rounds, chosen.seconds)
            say(f"{precision} {size}x{size}: done")
    machine = describe_machine(load_before)
    lines = [
        "# Do rounded channel counts pay?",
        f"{time.strftime('%Y-%m-%d')}, {machine.processor}, ONNX Runtime, one thread, batch 1. Four 3x3",
        "convolutions of as many channels in as out; microseconds are medians of files timed in turn. The first",
        "columns say how much longer other widths take than a line between the multiples on both sides; the last,",
        "which widths take no less time than a wider one.",
        "",
        "| | "
        + " | ".join(f"no multiple of {multiple}" for multiple in MULTIPLES[1:])
        + " | the wider one is free at |",
        "| --- | " + "---: | " * len(MULTIPLES[1:]) + "--- |",
    ]
    for name, times in results.items():
        shares = " | ".join(f"{excess(times, multiple):+.1%}" for multiple in MULTIPLES[1:])
        lines.append(f"| {name} | {shares} | {', '.join(map(str, wasted(times))) or '-'} |")
    lines += ["", "| | " + "microseconds by width |", "| --- | --- |"]
    for name, times in results.items():
        lines.append(f"| {name} | {', '.join(f'{width}: {1e6 * value:.0f}' for width, value in times.items())} |")
    chosen.results.mkdir(exist_ok=True)
    (chosen.results / "channels.md").write_text("\n".join(lines) + "\n")
    content = {"date": time.strftime("%Y-%m-%d"), "machine": machine.model_dump(mode="json"), "seconds": results}
    (chosen.results / "channels.json").write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
