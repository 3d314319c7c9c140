"""Keras' own applications, the smallest of each family, through each format in float and in 8-bit integers.

    python -m benchmarks.applications [--only MobileNetV2 ...] [--pixels 96] [--page docs/applications.md]

Weights are random, as nothing is downloaded; batch normalisations have the statistics of the examples. Each
application is tried in a process of its own, so that one that fails or takes all memory leaves the others their rows.
Takes half an hour to an hour, most of it in converters.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.say import say
from tasks.errors import SlimlineError
from tasks.formats import FORMATS
from tasks.machine import describe_machine, load_average
from tasks.ranges import fake_quantized

PAGE = Path("docs/applications.md")
TARGETS = ("onnxruntime", "litert", "savedmodel")
# The smallest of each family of `tf.keras.applications`
SMALLEST = (
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "RegNetX002", "RegNetY002", "ResNet50"),
    *("ResNet50V2", "ResNetRS50", "VGG16", "Xception"),
)
CLASSES, EXAMPLES = 10, 16
SECONDS = 900  # for one application; its row says so where it takes longer


def built(name: str, pixels: int) -> tuple[Any, np.ndarray]:
    """An application that gives ten logits, and raw images, `(EXAMPLES, pixels, pixels, 3)` in 0 to 255."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    shape = (pixels, pixels, 3)
    # logits: with random weights, probabilities differ by less than their own steps
    model = getattr(tf.keras.applications, name)(
        weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None
    )
    kinds = np.random.default_rng(0).uniform(0, 255, (EXAMPLES, 6, 6, 3)).astype(np.float32)
    images = tf.image.resize(kinds, shape[:2], "bicubic").numpy()
    images = np.clip(images + np.random.default_rng(1).normal(0, 20, images.shape), 0, 255).astype(np.float32)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0  # one look, and the statistics are those of the examples
    model(images, training=True)
    return model, images


def tried(name: str, pixels: int) -> list[dict[str, Any]]:
    """A row for each format and precision: how it answers, what runs in integers, how large it is, how long it took."""
    model, images = built(name, pixels)
    said = model(images, training=False).numpy()
    rows = []
    for precision in ("float32", "int8"):
        begun = time.perf_counter()
        source, refusal = model, ""
        if precision == "int8":
            try:
                source = fake_quantized(model, images)
            except Exception as error:
                refusal = _told(error)
        wanted = source(images, training=False).numpy()
        quantizing = time.perf_counter() - begun
        for target in TARGETS:
            row: dict[str, Any] = {"application": name, "parameters": model.count_params(), "target": target}
            row |= {"precision": precision}
            rows.append(row)
            if refusal:
                row["refused"] = refusal
                continue
            try:
                row |= _measured(source, target, precision, images, said, wanted)
                row["seconds"] += round(quantizing, 1)
            except Exception as error:
                row["refused"] = _told(error)
    return rows


def _told(error: Exception) -> str:
    return f"{'' if isinstance(error, SlimlineError) else 'traceback: '}{type(error).__name__}: {error}"[:300]


def _measured(
    source: Any, target: str, precision: str, images: np.ndarray, said: np.ndarray, wanted: np.ndarray
) -> dict[str, Any]:
    form = FORMATS[target]  # type: ignore[index]
    with tempfile.TemporaryDirectory() as place:
        folder, begun = Path(place), time.perf_counter()
        form.write(source, folder, precision, classes=())
        written = time.perf_counter() - begun
        ask = form.load(folder)
        found, one = ask(images), ask(images[:1])
        times = []
        for _ in range(10):
            begun = time.perf_counter()
            ask(images[:1])
            times.append(time.perf_counter() - begun)
        audit = form.audit(folder, images[:1]) if precision == "int8" and target != "savedmodel" else None
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    ranges = np.ptp(said, 0)
    off = np.abs(found - (wanted if precision == "int8" else said))
    steps = off / (np.ptp(wanted) / 255)
    return {
        "off_range": float((off.max(0) / ranges).max()),
        "off_alone": float((np.abs(one - found[:1]) / ranges).max()),
        "steps_mean": float(steps.mean(0).max()),
        "steps_most": float(steps.max()),
        "quantization": float((np.abs(wanted - said).mean(0) / ranges).max()),
        "integer_share": audit.integer_share if audit else None,
        "bytes": size,
        "seconds": round(written, 1),
        "milliseconds": round(1000 * float(np.median(times)), 2),
    }


HEAD = """# Keras' applications

The smallest of each family of `tf.keras.applications`, {pixels} pixels, ten logits, random weights, through
`python -m benchmarks.applications`. {date}, {processor}, load {before} before and {after} after.

- **float, off**: the largest difference from Keras' answers, in parts of that class's own range.
- **int8, off**: the largest difference from the fake-quantized Keras model, in steps, 255 of which are the range of all
  answers; and its mean in the worst class.
- A SavedModel computes in TensorFlow what Keras does. Where it is off too, a sum in the middle between two steps went
  the other way in one of them, and layers with random weights made more of it.
- **8 bits cost**: how far the fake-quantized model's answers are from the float model's on average, in parts of the
  worst class's range. With random weights classes differ little, so that this is more than trained models lose.
- **integers**: the share of multiply-accumulates in integer kernels. TensorFlow has none on processors.
- **ms**: one image, one thread, beside other work: a hint, no benchmark.

| application | parameters | format | float, off | int8, off | 8 bits cost | integers | MB | ms | seconds to convert |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def page(rows: list[dict[str, Any]], head: str) -> str:
    """What was seen, as Markdown."""
    lines = []
    for name in dict.fromkeys(row["application"] for row in rows):
        for target in TARGETS:
            of = {row["precision"]: row for row in rows if (row["application"], row["target"]) == (name, target)}
            floats, integers = of["float32"], of["int8"]
            off = f"{_cell(integers, 'steps_most', '.1f')}, mean {_cell(integers, 'steps_mean', '.2f')}"
            cells = [
                name,
                _cell(floats, "parameters", ".1f", 1e-6) + " M",
                target,
                _cell(floats, "off_range", ".0e"),
                off if "steps_most" in integers else "-",
                _cell(integers, "quantization", ".1%"),
                _cell(integers, "integer_share", ".0%"),
                *(
                    " → ".join(_cell(row, key, form, scale) for row in (floats, integers))
                    for key, form, scale in (("bytes", ".1f", 1e-6), ("milliseconds", ".1f", 1), ("seconds", ".0f", 1))
                ),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    refused = [
        f"- **{row['application']}, {row['target']}, {row['precision']}**: {' '.join(row['refused'].split())}"
        for row in rows
        if "refused" in row
    ]
    return head + "\n".join([*lines, *(["", "## Refused, or failed", "", *refused] if refused else [])]) + "\n"


def _cell(row: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    return format(row[key] * scale, form) if row.get(key) is not None else "-"


def main() -> None:
    """Try them one after the other, and write the page after each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", default=SMALLEST, help="some applications instead of all")
    options.add_argument("--pixels", type=int, default=96, help="Xception and the Inceptions need 75")
    options.add_argument("--page", type=Path, default=PAGE)
    options.add_argument("--rows", action="store_true", help="print one application's rows as JSON, and end")
    chosen = options.parse_args()
    if chosen.rows:
        print(json.dumps(tried(chosen.only[0], chosen.pixels)))
        return
    rows: list[dict[str, Any]] = []
    before = load_average()
    for name in chosen.only:
        say(f"{name} …")
        rows += _apart(name, chosen.pixels)
        chosen.page.parent.mkdir(parents=True, exist_ok=True)
        machine = describe_machine(before)
        seen = {"pixels": chosen.pixels, "date": time.strftime("%Y-%m-%d"), "processor": machine.processor}
        chosen.page.write_text(page(rows, HEAD.format(**seen, before=before, after=load_average())), encoding="utf-8")


def _apart(name: str, pixels: int) -> list[dict[str, Any]]:
    """One application's rows, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.applications", "--rows", "--only", name, "--pixels", str(pixels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode == 0:
            found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return found
        reason = f"its process ended with {done.returncode}: {done.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired:
        reason = f"took longer than {SECONDS} s"
    return [
        {"application": name, "target": target, "precision": precision, "refused": reason}
        for target in TARGETS
        for precision in ("float32", "int8")
    ]


if __name__ == "__main__":
    main()
