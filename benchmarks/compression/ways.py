"""The ways of others: each makes a file from the same float teacher and the same calibration images."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.conversion.routes import nncf, ort_static, plain_tf2onnx, tflite_static, tfmot_trained, written
from benchmarks.conversion.subjects import Subject
from benchmarks.kept import reporter
from tasks.contract.artifact import Target
from tasks.formats.onnx import files as onnx
from tasks.formats.tflite import files as tflite
from tasks.prune import PruneConfig, prune
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching

if TYPE_CHECKING:
    import tensorflow as tf

PEERS = Path(__file__).parent.parent / "peers"
VALIDATED = 1000  # validation images by which NNCF's accuracy control and Olive's search measure accuracy
MOST_LOST = "0.01"  # of them
# Olive 0.13 obeys its own switch only after a first message about the machine; where CI is set it sends none.
QUIET = {"OLIVE_DISABLE_TELEMETRY": "1", "CI": "1", "ORT_DISABLE_TELEMETRY": "1"}
Write = Callable[[Path], None]  # puts `onnx.FILE` or `tflite.FILE` in a folder


@dataclass(frozen=True)
class Way:
    """What a row of the table is made by."""

    title: str
    target: Target
    write: Write


class NotRunHereError(RuntimeError):
    """A way that this benchmark knows of and cannot go: says why."""


def ways(subject: Subject, peers: Path, olive: Path, tuning: FitConfig, seed: int) -> tuple[Way, ...]:
    """All of them; the float file in ONNX Runtime, which the others are compared with, is the first.

    Args:
        subject: the teacher, and the calibration images.
        peers: the Python of the peers' own environment.
        olive: that of Olive's.
        tuning: how long quantization-aware models and pruned ones are fine-tuned.
        seed: of fine-tuning.

    """

    @cache
    def aware() -> "tf.keras.Model":
        return tfmot_trained(subject, tuning, seed)

    @cache
    def pruned_aware() -> "tf.keras.Model":
        config = PruneConfig(method="magnitude", sparsity=0.5, fit=tuning)
        thin = prune(
            subject.model,
            subject.data,
            config,
            teacher=None,
            teaching=Teaching(mix=0),
            seed=seed,
            report=reporter("tfmot: pruning"),
        )
        whole = Subject(subject.name, subject.says, thin, subject.data, subject.x, subject.y, subject.examples)
        return tfmot_trained(whole, tuning, seed)

    def of(write: Callable[["tf.keras.Model", Subject, Path], None]) -> Write:
        return lambda folder: write(subject.model, subject, folder)

    def after(model: Callable[[], "tf.keras.Model"], write: Callable[["tf.keras.Model", Path], None]) -> Write:
        return lambda folder: write(model(), folder)

    def searched(python: Path, program: str) -> Write:
        return partial(_searched, subject, python, PEERS / program)

    def to_onnx(model: "tf.keras.Model", folder: Path) -> None:
        plain_tf2onnx(model, subject, folder)

    return (
        Way("float teacher", "onnxruntime", of(partial(written, onnx, "float32"))),
        Way(
            "`quantize_static`, S8S8",
            "onnxruntime",
            of(partial(ort_static, activation="QInt8", per_channel=False)),
        ),
        Way(
            "`quantize_static`, U8S8 per channel",
            "onnxruntime",
            of(partial(ort_static, activation="QUInt8", per_channel=True)),
        ),
        Way("`quantize_dynamic`", "onnxruntime", partial(_ort_dynamic, subject)),
        Way("NNCF `quantize`", "onnxruntime", of(partial(nncf, peers, "performance"))),
        Way("NNCF `quantize_with_accuracy_control`", "onnxruntime", searched(peers, "nncf_accuracy.py")),
        Way("Olive, automatic", "onnxruntime", searched(olive, "olive_auto.py")),
        Way("tfmot `quantize_model`, plain tf2onnx", "onnxruntime", after(aware, to_onnx)),
        Way("tfmot 50% zeros and `quantize_model`, plain tf2onnx", "onnxruntime", after(pruned_aware, to_onnx)),
        Way("float teacher", "litert", of(partial(written, tflite, "float32"))),
        Way("the TFLite converter, static int8", "litert", of(tflite_static)),
        Way("the TFLite converter, dynamic range", "litert", partial(_tflite_dynamic, subject)),
        Way("tfmot `quantize_model`, the TFLite converter", "litert", after(aware, _to_tflite)),
        Way("tfmot 50% zeros and `quantize_model`, the TFLite converter", "litert", after(pruned_aware, _to_tflite)),
    )


def _ort_dynamic(subject: Subject, folder: Path) -> None:
    """ONNX Runtime's dynamic quantization: kernels in 8 bits, ranges of what they meet measured at each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as place:
        written(onnx, "float32", subject.model, subject, Path(place))
        ready = Path(place) / "ready.onnx"
        quant_pre_process(Path(place) / onnx.FILE, ready)
        quantize_dynamic(ready, folder / onnx.FILE, weight_type=QuantType.QInt8, per_channel=True)


def _searched(subject: Subject, python: Path, program: Path, folder: Path) -> None:
    """What a program of another environment makes of the float file, with at most a point lost on validation images."""
    if not python.exists():
        raise NotRunHereError(f"{python} is not there: `make bench-compression` makes it where it can be downloaded")
    x, y = subject.data.sample("validation", VALIDATED)
    with tempfile.TemporaryDirectory() as place:
        source, examples = Path(place) / onnx.FILE, Path(place) / "examples.npz"
        written(onnx, "float32", subject.model, subject, Path(place))
        np.savez(examples, input=subject.examples, x=x, y=y)
        _called([python, program, source, examples, folder / onnx.FILE, MOST_LOST], Path(place))


def _called(command: list[object], place: Path) -> None:
    """Runs it without telemetry of Olive and ONNX Runtime; what it keeps for another time goes with the place."""
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(place))
    environment = {**os.environ, **places, **QUIET}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it failed in silence")


def _tflite_dynamic(subject: Subject, folder: Path) -> None:
    """The converter's default: kernels in 8 bits, ranges of what they meet measured at each call."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(subject.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / tflite.FILE).write_bytes(converter.convert())


def _to_tflite(model: "tf.keras.Model", folder: Path) -> None:
    """What tfmot's documentation does with a quantization-aware model."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / tflite.FILE).write_bytes(converter.convert())
