"""The routes: each makes one file, ready for its runtime, from one trained Keras model."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.conversion.subjects import Subject, reporter
from tasks.contract.artifact import Target
from tasks.formats.onnx import files as onnx
from tasks.formats.tflite import files as tflite
from tasks.keras_graph.rebuild import Copies, kind, rebuild
from tasks.quantization.parameters import nudged
from tasks.quantize import QuantizeConfig, quantize
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Teaching, plain, supervised

if TYPE_CHECKING:
    import tensorflow as tf

SourceModel = Literal["float", "trained", "calibrated", "tfmot"]  # the Keras model that a file is made from
NNCF = Path(__file__).parent.parent / "peers" / "nncf_int8.py"


@dataclass(frozen=True)
class Route:
    """A way to a file.

    source: what it is made from, and whose answers it should give. write: puts `onnx.FILE` or `tflite.FILE` in a
    folder.
    """

    title: str
    target: Target
    source: SourceModel
    write: Callable[["tf.keras.Model", Subject, Path], None]
    ours: bool = False


def routes(peers: Path) -> tuple[Route, ...]:
    """All of them, the float file of each runtime before the others.

    Args:
        peers: the Python of NNCF's own environment.

    """
    signed = partial(ort_static, activation="QInt8", per_channel=False)
    unsigned = partial(ort_static, activation="QUInt8", per_channel=True)
    return (
        Route("float", "onnxruntime", "float", partial(written, onnx, "float32")),
        Route("ours, quantization-aware", "onnxruntime", "trained", partial(written, onnx, "int8"), True),
        Route("ours, static", "onnxruntime", "calibrated", partial(written, onnx, "int8"), True),
        Route("tfmot `quantize_model`, plain tf2onnx", "onnxruntime", "tfmot", plain_tf2onnx),
        Route("`quantize_static`, S8S8", "onnxruntime", "float", signed),
        Route("`quantize_static`, U8S8 per channel", "onnxruntime", "float", unsigned),
        Route("NNCF `quantize`", "onnxruntime", "float", partial(nncf, peers, "performance")),
        Route("NNCF `quantize`, preset mixed", "onnxruntime", "float", partial(nncf, peers, "mixed")),
        Route("float", "litert", "float", partial(written, tflite, "float32")),
        Route("ours, quantization-aware", "litert", "trained", partial(written, tflite, "int8"), True),
        Route("ours, static", "litert", "calibrated", partial(written, tflite, "int8"), True),
        Route("the TFLite converter's own", "litert", "float", tflite_static),
    )


def keras_models(
    subject: Subject, tuning: FitConfig, seed: int
) -> Iterator[tuple[SourceModel, Callable[[], "tf.keras.Model"]]]:
    """What the routes start from, each made when it is called."""

    def ours(method: Literal["training", "post_training"]) -> "tf.keras.Model":
        config = QuantizeConfig(method=method, calibration_examples=len(subject.examples), fit=tuning)
        report = reporter(f"{subject.name}: ours, fine-tuning")
        return quantize(
            subject.model, subject.data, config, teacher=None, teaching=Teaching(), seed=seed, report=report
        )

    yield "float", lambda: subject.model
    yield "trained", lambda: ours("training")
    yield "calibrated", lambda: ours("post_training")
    yield "tfmot", lambda: tfmot_trained(subject, tuning, seed)


def tfmot_trained(subject: Subject, tuning: FitConfig, seed: int) -> "tf.keras.Model":
    """The model through tfmot's `quantize_model`, fine-tuned as ours.

    It takes no Rescaling: what stands between the model's Rescaling layers is quantized, and they are put around it.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.quantization.keras import quantize_model

    whole = rebuild(subject.model, _copied())
    before = whole.get_layer("preprocessing")
    after = next((layer for layer in whole.layers if layer.name == "output"), None)
    end = whole.outputs[0] if after is None else after.input
    core = quantize_model(_between(before.output, end, subject.name))
    output = core(before.output)
    model = tf.keras.Model(whole.inputs, output if after is None else after(output), name=subject.name)
    objective = supervised(plain(subject.data.config.problem, subject.data.head.variance))
    fit(model, subject.data, tuning, objective, seed=seed, report=reporter(f"{subject.name}: tfmot, fine-tuning"))
    return model


def _copied() -> Callable[[Any], Any]:
    """Answers every call with a copy of its layer."""
    copies = Copies()
    return lambda call: copies.call(call.layer, call.args, call.kwargs)


def _between(start: Any, end: Any, name: str) -> "tf.keras.Model":
    """The part of a graph between two tensors, with an input and weights of its own."""
    import tensorflow as tf

    part = tf.keras.Model(start, end, name=name)
    clone = tf.keras.models.clone_model(part)
    clone.set_weights(part.get_weights())
    return clone


def written(form: Any, precision: str, model: "tf.keras.Model", subject: Subject, folder: Path) -> None:
    """What a stage of ours writes."""
    form.write(model, folder, precision, classes=subject.data.classes)


def plain_tf2onnx(model: "tf.keras.Model", subject: Subject, folder: Path) -> None:  # noqa: ARG001
    """What a reader of tf2onnx's documentation does; only the opset is ours."""
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32, name="input")]
    tf2onnx.convert.from_keras(model, signature, opset=onnx.OPSET, output_path=str(folder / onnx.FILE))


def ort_static(model: "tf.keras.Model", subject: Subject, folder: Path, *, activation: str, per_channel: bool) -> None:
    """ONNX Runtime's static quantization of the float file, after its own pre-processing."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Examples(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the examples one after another."""

        def __init__(self) -> None:
            self._rest = iter(subject.examples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            example = next(self._rest, None)
            return None if example is None else {taken: example[None]}

    with tempfile.TemporaryDirectory() as place:
        written(onnx, "float32", model, subject, Path(place))
        taken = input_of(Path(place) / onnx.FILE)
        ready = Path(place) / "ready.onnx"
        quant_pre_process(Path(place) / onnx.FILE, ready)
        quantize_static(
            ready,
            folder / onnx.FILE,
            Examples(),
            activation_type=QuantType[activation],
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
        )


def input_of(file: Path) -> str:
    """What an ONNX file calls its one input."""
    import onnx_ir as ir

    (only,) = ir.load(file).graph.inputs
    return str(only.name)


def nncf(python: Path, preset: str, model: "tf.keras.Model", subject: Subject, folder: Path) -> None:
    """NNCF's post-training quantization of the float file, in its own environment."""
    if not python.exists():
        raise RuntimeError("its environment is not there: `make bench-conversion` makes it, with what it downloads")
    with tempfile.TemporaryDirectory() as place:
        written(onnx, "float32", model, subject, Path(place))
        examples: dict[str, Any] = {input_of(Path(place) / onnx.FILE): subject.examples}
        np.savez(Path(place) / "examples.npz", **examples)
        command = [python, NNCF, Path(place) / onnx.FILE, Path(place) / "examples.npz", folder / onnx.FILE, preset]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1800)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it failed in silence")


def tflite_static(model: "tf.keras.Model", subject: Subject, folder: Path) -> None:
    """The TFLite converter's own post-training quantization, float32 outside as ours."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([example[None]] for example in subject.examples)
    (folder / tflite.FILE).write_bytes(converter.convert())


def output_steps(quantized: "tf.keras.Model") -> np.ndarray:
    """How far apart the values are that a fake-quantized model can give, in the unit of its output: one, or each's."""
    last = [layer for layer in quantized.layers if kind(layer) == "QuantizeLayer"][-1]
    least, most = nudged(last)
    scale = [np.asarray(layer.scale, np.float64) for layer in quantized.layers if layer.name == "output"]
    return np.asarray((most - least) / 255 * (scale[0] if scale else 1.0))
