"""The official MLPerf Tiny models, brought as files: our integers against the official int8 files, on the same inputs.

Files: mlcommons/tiny, `benchmark/training/`; official evaluation inputs: eembc/energyrunner, `datasets/`.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from benchmarks.conversion.measure import Open, Predict, answers_of, predicting, time_in_orders
from benchmarks.say import say
from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from tasks.contract.artifact import Precision, Target
from tasks.data import Dataset, open_data
from tasks.formats import FORMATS
from tasks.formats.tflite import files as tflite
from tasks.measuring import intervals, timing
from tasks.measuring.arrays import Floats, Outputs
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import example_scores
from tasks.quantize import quantize
from tasks.training.losses import Teaching
from tasks.zoo import build_model

if TYPE_CHECKING:
    import tensorflow as tf

RECIPES = Path(__file__).parent.parent.parent / "deployments" / "recipes"
SplitScores = dict[str, Floats]  # of each example, by what was asked: the test split, the official inputs


@dataclass(frozen=True)
class OfficialPaths:
    """What an official model consists of, as paths in the folder of all of them.

    images: whether it is CIFAR-10's; its test split is then CIFAR-10's own, else a part of the official inputs.
    """

    recipe: str
    model: str
    int8: str
    inputs: str
    images: bool
    says: str


OFFICIAL_MODELS = (
    OfficialPaths(
        "mlperf_tiny_resnet8",
        "image_classification/pretrainedResnet.h5",
        "image_classification/pretrainedResnet_quant.tflite",
        "image_classification/eval.npz",
        images=True,
        says="The test split is CIFAR-10's; none of its images, and none of the official ones, set ranges.",
    ),
    OfficialPaths(
        "mlperf_tiny_ds_cnn",
        "keyword_spotting/kws_ref_model",
        "keyword_spotting/kws_ref_model.tflite",
        "keyword_spotting/eval.npz",
        images=False,
        says="The test split is drawn from the official inputs; others of them set ranges, without their labels.",
    ),
)


@dataclass(frozen=True)
class OfficialFile:
    """A file that is measured, by what a table calls it."""

    name: str
    target: Target
    folder: Path
    open: Open

    @property
    def title(self) -> str:
        """As which it is timed."""
        return f"{self.target}: {self.name}"


class OfficialRow(BaseModel, frozen=True):
    """One file of an official model; `below`: how much less accurate than the official int8 file, in pairs."""

    file: str
    target: Target
    ours: bool
    kilobytes: float
    accuracy: Interval
    below: Interval | None
    accuracy_inputs: Interval
    below_inputs: Interval | None
    integer_share: float
    p50: float  # seconds, as are the quartiles
    p25: float
    p75: float
    speedup: Interval  # the median of our float file for the runtime over this one's


class Official(BaseModel, frozen=True):
    """One official model."""

    name: str
    says: str
    rows: tuple[OfficialRow, ...]


def measure_official(
    paths: OfficialPaths, models: Path, cifar: Path, *, seed: int, rounds: int, seconds: float
) -> Official:
    """Run an official model's recipe as plain functions, and compare.

    Args:
        paths: which.
        models: the folder of all official models.
        cifar: the folder of CIFAR-10.
        seed: of the bootstrap and the orders.
        rounds: how often each file is timed, at most.
        seconds: how long the timing of all takes, at most.

    """
    recipe = recipe_of(paths, models, cifar)
    say(f"{recipe.name}: reading, quantizing")
    data = open_data(recipe.data)
    model = build_model(recipe.teacher, data, seed=recipe.seed, field="teacher")
    quantized = quantize(
        model, data, recipe.quantize, teacher=None, teaching=Teaching(), seed=recipe.seed, report=lambda *_: None
    )
    x, y = data.arrays("test")
    inputs = np.load(models / paths.inputs)
    splits = {"test": (x, y), "inputs": (inputs["x"].astype(np.float32), inputs["y"].astype(np.int64))}
    with tempfile.TemporaryDirectory(prefix="slimline-official-") as place:
        files = _files(model, quantized, models / paths.int8, data, Path(place))
        count = sum(len(labels) for _, labels in splits.values())
        say(f"{recipe.name}: asking {len(files)} files for {count:,} answers each")
        scores = {file.title: _scores(file.open(), splits) for file in files}
        keras = _scores(predicting(model), splits)
        say(f"{recipe.name}: timing {len(files)} files in turn")
        times = time_in_orders({file.title: file.open for file in files}, x[:1], rounds, seconds, seed)
        rows = tuple(_row(file, scores, times, x[:1], seed) for file in files)
    return Official(
        name=recipe.name,
        says=f"`deployments/recipes/{paths.recipe}.yaml`, no training. {paths.says} {len(x):,} inputs in the test "
        f"split, {len(inputs['y']):,} official ones; the Keras model has {keras['test'].mean():.3f} and "
        f"{keras['inputs'].mean():.3f} of them right. The ratio is to our float file of the runtime. The official file "
        "takes and gives integers: turning floats into them is in its time.",
        rows=rows,
    )


def recipe_of(paths: OfficialPaths, models: Path, cifar: Path) -> Recipe:
    """The shipped recipe, with the files where they are."""
    places = {"teacher.model": models / paths.model, "data.source": models / paths.inputs}
    if paths.images:
        places |= {"data.source": cifar / "train.parquet", "data.test_source": cifar / "test.parquet"}
    return read_recipe(RECIPES / f"{paths.recipe}.yaml", [f"{field}={path}" for field, path in places.items()])


def _files(
    model: "tf.keras.Model", quantized: "tf.keras.Model", int8: Path, data: Dataset, place: Path
) -> list[OfficialFile]:
    """Ours, float and int8 for each runtime, and the official one."""
    files = []
    targets: tuple[Target, ...] = ("onnxruntime", "litert")
    kinds: tuple[tuple[str, tf.keras.Model, Precision], ...] = (
        ("float", model, "float32"),
        ("ours, int8", quantized, "int8"),
    )
    for target in targets:
        for name, source, precision in kinds:
            folder = place / f"{target}-{precision}"
            folder.mkdir()
            FORMATS[target].write(source, folder, precision, classes=data.classes)
            files.append(OfficialFile(name, target, folder, partial(FORMATS[target].load, folder, threads=1)))
    folder = place / "official"
    folder.mkdir()
    (folder / tflite.FILE).write_bytes(int8.read_bytes())
    return [*files, OfficialFile("official int8", "litert", folder, partial(_integers_outside, folder))]


def _integers_outside(folder: Path) -> Predict:
    """A function from float32 inputs to float32 outputs of a file that takes and gives 8-bit integers.

    The official files are asked one input at a time, as on the devices that they are made for.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / tflite.FILE), num_threads=1)
    interpreter.allocate_tensors()
    model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = model_input["quantization"]
    out_scale, out_zero = model_output["quantization"]
    limits = np.iinfo(model_input["dtype"])

    def run(inputs: Outputs) -> Outputs:
        outputs = []
        for example in inputs:
            steps = np.clip(np.rint(example / scale) + zero, limits.min, limits.max).astype(model_input["dtype"])
            interpreter.set_tensor(model_input["index"], steps[None])
            interpreter.invoke()
            outputs.append((interpreter.get_tensor(model_output["index"])[0].astype(np.float32) - out_zero) * out_scale)
        return np.stack(outputs)

    return run


def _scores(predict: Predict, splits: dict[str, tuple[Outputs, npt.NDArray[Any]]]) -> SplitScores:
    """1.0 for each right answer and 0.0 for each wrong one."""
    return {name: example_scores("classification", y, answers_of(predict, x), 1.0) for name, (x, y) in splits.items()}


def _row(
    file: OfficialFile, scores: dict[str, SplitScores], times: dict[str, Floats], example: Outputs, seed: int
) -> OfficialRow:
    official, own = scores["litert: official int8"], scores[file.title]
    accuracy = {name: intervals.mean_interval(scored, share=True) for name, scored in own.items()}
    below: dict[str, Interval | None] = dict.fromkeys(own)
    if own is not official:
        below |= {name: intervals.paired_interval(official[name], own[name], share=True) for name in own}
    form = FORMATS[file.target]
    p25, p50, p75 = (float(value) for value in np.quantile(times[file.title], [0.25, 0.5, 0.75]))
    return OfficialRow(
        file=file.name,
        target=file.target,
        ours=file.name.startswith("ours"),
        kilobytes=(file.folder / form.FILE).stat().st_size / 1024,
        accuracy=accuracy["test"],
        below=below["test"],
        accuracy_inputs=accuracy["inputs"],
        below_inputs=below["inputs"],
        integer_share=form.audit(file.folder, example).integer_share,
        p50=p50,
        p25=p25,
        p75=p75,
        speedup=timing.ratio_interval(times[f"{file.target}: float"], times[file.title], seed=seed),
    )
