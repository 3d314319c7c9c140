"""Whole applications of Keras, quantized after training by each way, beside NNCF and ONNX Runtime's own, in one run.

    python -m benchmarks.post_training [ResNet50 MobileNetV2] [--pixels 224] [--calibration 64] [--tests 128]

Weights are drawn, as nothing is downloaded, and trained for a minute on drawn images of ten colours, so that answers
hang on what is seen. Writes `benchmarks/results/post_training.md`, and all figures beside it as JSON, after each.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.applications import CLASSES, LEARNED, apart, drawn, of_keras
from benchmarks.conversion import page
from benchmarks.conversion.measure import SubjectResult, measure
from benchmarks.conversion.routes import routes
from benchmarks.conversion.subjects import Subject
from benchmarks.say import say
from tasks.contract.state_folder import home
from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as keras
from tasks.measuring.machine import describe_machine, load_average
from tasks.training.loop import FitConfig

RESULTS = Path(__file__).parent / "results"
WHY = (  # where ours is not the best of these
    "Of KB: a kernel of ours has a step for each output channel, where S8S8 has one for all of it; and its biases are "
    "integers with such steps beside them, where NNCF's are float. Of the same class: NNCF keeps the last layer, and "
    "what else its list has, in float, and corrects biases, which `quantize.bias_correction` does here, off unless it "
    "is asked for. One of 128 images is 0.8%."
)
TRAINED = ("ours, quantization-aware", "tfmot `quantize_model`, plain tf2onnx")  # what these rows are not about


def subject(name: str, pixels: int, calibration: int, tests: int, kept: Path) -> Subject:
    """An application of Keras that learned ten colours, as `applications` has it."""
    import tensorflow as tf

    model = of_keras(tf.keras, name, pixels)
    x, y = drawn(max(LEARNED, calibration), pixels, 0)
    began = time.perf_counter()
    apart(model, x[:LEARNED], y[:LEARNED])
    say(f"{name}: taught for {time.perf_counter() - began:.0f} s")
    x_test, y_test = drawn(tests, pixels, 1)
    file = kept / f"{name}-{pixels}.npz"
    half = len(x) // 2
    np.savez(file, x_train=x, y_train=y, x_validation=x[:half], y_validation=y[:half], x_test=x_test, y_test=y_test)
    data = open_data(DataConfig(reader="npz", source=str(file)))
    says = f"{pixels} pixels, {model.count_params():,} parameters, drawn weights that learned {CLASSES} colours"
    x_test, y_test = data.arrays("test")
    examples = data.sample("train", calibration)[0]
    return Subject(name, says, keras.plain(model, name, "model"), data, x_test, y_test, examples)


def main() -> None:
    """One after the other; what is done is written."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", default=["MobileNetV2", "ResNet50"], metavar="application")
    options.add_argument("--pixels", type=int, default=224)
    options.add_argument("--calibration", type=int, default=64, help="inputs that set ranges, on every route")
    options.add_argument("--tests", type=int, default=128, help="inputs that are asked")
    options.add_argument("--rounds", type=int, default=400, help="how often each file is timed")
    options.add_argument("--seconds", type=float, default=240, help="longest timing of one model's files")
    options.add_argument("--peers", type=Path, default=Path(".slimline/peers/bin/python"), help="NNCF's Python")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the figures are written")
    chosen = options.parse_args()
    load_before = load_average()
    kept = home() / "benchmarks"
    kept.mkdir(parents=True, exist_ok=True)
    ways = [way for way in routes(chosen.peers.absolute()) if way.title not in TRAINED]
    results: list[SubjectResult] = []
    for name in chosen.names:
        made = subject(name, chosen.pixels, chosen.calibration, chosen.tests, kept)
        results.append(measure(made, ways, FitConfig(), seed=1, rounds=chosen.rounds, seconds=chosen.seconds))
        write(results, chosen, load_before)
    print((chosen.results / "post_training.md").read_text())


def write(results: list[SubjectResult], chosen: argparse.Namespace, load_before: float) -> None:
    """The page, and its figures as JSON."""
    machine, date = describe_machine(load_before), time.strftime("%Y-%m-%d")
    notes = (
        f"{date}: {chosen.calibration} inputs set the ranges on every route, {chosen.tests} others are asked; "
        "accuracy is that of ten colours, and says little. *Off*: the mean difference from the float Keras model's "
        "answers, over their span.",
    )
    content = {
        "date": date,
        "machine": machine.model_dump(mode="json"),
        "subjects": [one.model_dump(mode="json") for one in results],
    }
    chosen.results.mkdir(exist_ok=True)
    (chosen.results / "post_training.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = ["# Applications of Keras, quantized after training by each way", "", *page.head(machine, notes)]
    for result in results:
        lines += ["", *page.tables(result), "", *against(result)]
    (chosen.results / "post_training.md").write_text("\n".join(lines) + "\n")


def against(result: SubjectResult) -> list[str]:
    """Our ONNX file beside each other one: what is at least as good, and what is not."""
    rows = [row for row in result.rows if row.target == "onnxruntime" and not row.failure and row.route != "float"]
    ours = next((row for row in rows if row.ours), None)
    if ours is None:
        return ["Ours has no ONNX file."]
    lines = [
        "| ours beside | same class as float | off, of the span | time in integers | conversions | KB | p50 / ours |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        if not row.ours:
            ratio = result.against[ours.route][row.route]
            lines.append(
                f"| {row.route} | {ours.as_float:.1%}, {row.as_float:.1%} | {ours.off_float:.2%}, {row.off_float:.2%} "
                f"| {ours.integer_time:.1%}, {row.integer_time:.1%} | {ours.conversions}, {row.conversions} "
                f"| {ours.kilobytes:.0f}, {row.kilobytes:.0f} "
                f"| {ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
            )
    return [*lines, "", WHY]


if __name__ == "__main__":
    main()
