"""Keras' own applications, the smallest of each family: brought from files of both Keras, and made into each format.

    python -m benchmarks.applications [--only MobileNetV2 ...] [--again] [--pixels 64] [--page docs/applications.md]

Weights are drawn, as nothing is downloaded, and trained for a minute, so that the answers hang on the image: see
`apart`. Each application is measured in a process of its own, so that one that fails or takes all memory leaves the
others their rows. What was seen is kept beside the page after each, and what is there is not measured again unless
asked. All of them take two hours on two cores, most of it in converters.
"""

import argparse
import colorsys
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.applications_page import TARGETS, page
from benchmarks.say import say
from tasks.contract.artifact import Precision, Target
from tasks.contract.errors import SlimlineError
from tasks.contract.named import ONE
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.parity import answers_apart, sizes_apart
from tasks.keras_graph.folding import fold
from tasks.measuring.agreement import furthest
from tasks.measuring.machine import describe_machine, load_average
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.sensitivity import Slack, slack

if TYPE_CHECKING:
    import tensorflow as tf

PAGE = Path("docs/applications.md")
# The smallest of each family; RegNet and ResNetRS are in `tf.keras.applications` alone.
SMALLEST = (
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile", "RegNetX002", "RegNetY002"),
    *("ResNet50", "ResNet50V2", "ResNetRS50", "VGG16", "Xception"),
)
LEAST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # pixels that an application asks for
CLASSES, LEARNED, ASKED = 10, 160, 64
EPOCHS, BATCH, MOMENTUM = 6, 16, 0.8  # sixty steps
RATES = {"vgg16": 0.0001}  # by a model's name, where 0.001 is too much: it has no norms, and stays at chance
BY_HAND = "\n<!-- What follows is written by hand, and kept. -->\n"
SECONDS = 2400  # for one application; its row says so where it takes longer


def drawn(count: int, pixels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `(count, pixels, pixels, 3)` in 0 to 255, float32, of ten classes that their colours tell."""
    import tensorflow as tf

    draw = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    colours = np.array([colorsys.hsv_to_rgb(label / CLASSES, 0.8, 200) for label in range(CLASSES)])
    blobs = draw.uniform(-90, 90, (count, 6, 6, 3)).astype(np.float32)
    images = tf.image.resize(blobs, (pixels, pixels), "bicubic").numpy() + colours[labels][:, None, None]
    return np.clip(images + draw.normal(0, 20, images.shape), 0, 255).astype(np.float32), labels


def apart(model: Any, images: np.ndarray, labels: np.ndarray) -> None:
    """Train a model a little, so that its answers differ by more than what 8 bits lose.

    As Keras draws it, a deep model answers all images nearly the same: what differs is a hundredth of what flows
    through it, and goes another way for a hair. Sixty steps change that. Moving averages of batch normalisations follow
    in a few steps, where Keras' own take hundreds.
    """
    import tensorflow as tf

    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = MOMENTUM
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(RATES.get(model.name, 0.001), clipnorm=1.0), loss)
    model.fit(images, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)


def of_keras(library: Any, name: str, pixels: int) -> Any:
    """An application of Keras 2 or 3 as it draws it, the same each time, or none if that Keras does not have it.

    It answers with logits: probabilities of a model that has hardly learned differ by less than their own steps.
    """
    if not hasattr(library.applications, name):
        return None
    library.utils.set_random_seed(3)
    settings = {"weights": None, "input_shape": (pixels, pixels, 3), "classes": CLASSES}
    return getattr(library.applications, name)(**settings, classifier_activation=None)


def measured(name: str, pixels: int) -> dict[str, Any]:
    """What is seen of an application: from files of both Keras, and in each format and precision."""
    import tensorflow as tf

    begun = time.perf_counter()
    model = of_keras(tf.keras, name, pixels)
    learned, asked = drawn(LEARNED, pixels, 0), drawn(ASKED, pixels, 1)
    apart(model, *learned)
    reference = model(asked[0], training=False).numpy()
    seen: dict[str, Any] = {
        "application": name,
        "pixels": pixels,
        "parameters": model.count_params(),
        "accuracy": float((reference.argmax(1) == asked[1]).mean()),
        "brought": {"2": _brought(model, asked[0])},
    }
    import keras as three

    theirs = of_keras(three, name, pixels)
    if theirs is not None:
        seen["brought"]["3"] = _brought(theirs, asked[0])
    seen["rows"] = _rows(keras.plain(model, name, "model"), learned[0][:ASKED], asked[0], reference)
    return seen | {"took": round(time.perf_counter() - begun)}


def _brought(model: Any, images: np.ndarray) -> dict[str, Any]:
    """How a model that was saved as a `.keras` file answers once it was brought, and once it was made simpler."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "model.keras")
        try:
            model.save(path)
            ours = keras.import_model(path, trust=False)
            brought = np.asarray(model(images, training=False), np.float32)
            off = [furthest(answers(images, training=False).numpy(), brought) for answers in (ours, fold(ours))]
            return {"off": [difference.size / difference.span for difference in off]} | (
                {"wrong": str(max(off, key=lambda difference: difference.share))}
                if max(difference.share for difference in off) > 1
                else {}
            )
        except Exception as error:
            return {"refused": _message(error)}


def _rows(
    model: "tf.keras.Model", learned: np.ndarray, asked: np.ndarray, reference: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each format and precision: how it answers, what runs in integers, how large it is, how long it took."""
    rows = []
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        begun = time.perf_counter()
        source, by, refusal = model, None, ""
        if precision == "int8":
            try:
                source = fake_quantized(model, learned)
                by = slack(source, asked)
            except Exception as error:
                refusal = _message(error)
        expected = source(asked, training=False).numpy()
        quantizing = time.perf_counter() - begun
        for target in TARGETS:
            row: dict[str, Any] = {"target": target, "precision": precision}
            rows.append(row)
            if refusal:
                row["refused"] = refusal
                continue
            try:
                row |= _file_row(source, target, precision, asked, reference, expected, by)
                row["seconds"] += round(quantizing, 1)
            except Exception as error:
                row["refused"] = _message(error)
    return rows


def _message(error: Exception) -> str:
    return f"{'' if isinstance(error, SlimlineError) else 'traceback: '}{type(error).__name__}: {error}"[:400]


def _file_row(
    source: "tf.keras.Model",
    target: Target,
    precision: Precision,
    images: np.ndarray,
    reference: np.ndarray,
    expected: np.ndarray,
    by: Slack | None,
) -> dict[str, Any]:
    form = FORMATS[target]
    with tempfile.TemporaryDirectory() as place:
        folder, begun = Path(place), time.perf_counter()
        form.write(source, folder, precision, classes=())
        written = time.perf_counter() - begun
        ask = form.load(folder)
        actual, times = ask(images), []
        for _ in range(10):
            begun = time.perf_counter()
            ask(images[:1])
            times.append(time.perf_counter() - begun)
        wrong = answers_apart(actual, expected, target, precision, by=by) or sizes_apart(
            ask, target, precision, images, len(images), actual, by=by
        )
        audit = form.audit(folder, images[:1]) if precision == "int8" and target != "savedmodel" else None
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    off = np.abs(actual - expected)
    moves = by[ONE] if by else None
    step = float((moves.step if moves else 0) or np.ptp(expected) / 255)
    ranges = np.ptp(reference, 0)
    return {
        "off": float((off.max(0) / ranges).max()),
        "steps_mean": float(off.mean(0).max() / step),
        "steps_most": float(off.max() / step),
        "unrest": moves.unrest / step if moves else None,
        "quantization": float((np.abs(expected - reference).mean(0) / ranges).max()),
        "agree": float((actual.argmax(1) == reference.argmax(1)).mean()),
        "wrong": str(wrong) if wrong else "",
        "integer_share": audit.integer_share if audit else None,
        "bytes": size,
        "seconds": round(written, 1),
        "milliseconds": round(1000 * float(np.median(times)), 2) if form.RUNS_HERE else None,
    }


def main() -> None:
    """Measure them one after the other; keep what was seen and write the page after each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", default=SMALLEST, help="some applications instead of all")
    options.add_argument("--again", action="store_true", help="measure also what was measured before")
    options.add_argument("--pixels", type=int, default=64, help="where an application takes so few")
    options.add_argument("--page", type=Path, default=PAGE)
    options.add_argument("--apart", action="store_true", help="print what is seen of one application, and end")
    chosen = options.parse_args()
    if chosen.apart:
        (name,) = chosen.only
        print(json.dumps(measured(name, max(chosen.pixels, LEAST.get(name, 0)))))
        return
    kept = chosen.page.with_suffix(".json")
    seen: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in chosen.only:
        if name in seen and not chosen.again:
            say(f"{name}: measured before")
            continue
        say(f"{name} …")
        before = load_average()
        result = _apart(name, chosen.pixels)
        machine = {"date": time.strftime("%Y-%m-%d"), "processor": describe_machine(before).processor}
        seen[name] = {**result, **machine, "load": [before, load_average()]}
        kept.parent.mkdir(parents=True, exist_ok=True)
        seen = dict(sorted(seen.items()))
        _put(kept, json.dumps(seen, indent=1) + "\n")
        _put(chosen.page, page(seen, ASKED) + _by_hand(chosen.page))


def _by_hand(path: Path) -> str:
    """What somebody wrote behind the page that is made."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    return BY_HAND + before.split(BY_HAND, 1)[1] if BY_HAND in before else ""


def _put(path: Path, text: str) -> None:
    """A file that is whole, or the one that was there before."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _apart(name: str, pixels: int) -> dict[str, Any]:
    """What is seen of an application, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.applications", "--apart", "--only", name, "--pixels", str(pixels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode == 0:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return result
        reason = f"its process ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        if done.returncode == -signal.SIGKILL:
            reason = "its process was killed, most likely as it took all memory"
    except subprocess.TimeoutExpired:
        reason = f"took longer than {SECONDS} s"
    return {"application": name, "failed": reason}


if __name__ == "__main__":
    main()
