"""How right the files of one network are: here, and on emulated processors, bit by bit."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from benchmarks.conversion.subjects import Subject
from benchmarks.pairs.answers import BATCH, answers, settings
from benchmarks.pairs.files import FULL, WAYS, digest, scales
from benchmarks.pairs.timing import NetworkTiming
from benchmarks.say import say
from tasks.formats.last_integers import Visible, onnx_visible
from tasks.formats.onnx import files as form
from tasks.measuring import intervals
from tasks.measuring.arrays import Floats
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import SCORE_NAMES, agreement, example_scores
from tasks.processors import PROCESSORS, Question, ask, emulator_version, missing

ELSEWHERE = ("x86 with AVX2, without VNNI", "x86 without AVX2", "ARM64")
PATIENCE = 3600  # seconds for all files of a network on an emulated processor, where a call takes 100 times as long
FileOutputs = list[npt.NDArray[np.float32]]  # of a file: what it answers, and what its last integers mean


class There(BaseModel, frozen=True):
    """What a file answers on an emulated processor.

    differ: the share of examples whose last integers, all that comes before a softmax in float, are not bit by bit
    those of this machine. score: of these examples. below: by how much that is under the full-range file's here, in
    pairs.
    """

    differ: float
    score: float
    below: Interval


class WayRow(BaseModel, frozen=True):
    """What was seen of one file, in one way of opening it.

    steps: their size over the full-range file's, averaged over all channels. saturating: how many of its layers can, by
    its numbers alone. below: by how much its score is under the full-range file's, on the same examples. same_class:
    the share of examples on which the float file names the same class first. mse: of a reconstruction. score_here: of
    those examples that are asked elsewhere too.
    """

    kilobytes: float
    integer_share: float | None
    steps: float | None
    saturating: int | None
    score: Interval
    below: Interval | None
    same_class: float | None
    mse: float | None
    score_here: float
    elsewhere: dict[str, There]


class NetworkResult(BaseModel, frozen=True):
    """All that was seen of a network.

    emulators: what emulates a processor that was asked. unasked: why one was not. digest: of the files, which a later
    timing must be of too.
    """

    network: str
    says: str
    score: str
    tests: int
    asked_elsewhere: int
    emulators: dict[str, str]
    unasked: dict[str, str]
    macs: int
    digest: str
    rows: dict[str, WayRow]
    timing: NetworkTiming | None = None


def measure(subject: Subject, folder: Path, emulated: int) -> NetworkResult:
    """Everything but times, of files that `files.write` put in a folder.

    Args:
        subject: whose files they are.
        folder: where they are.
        emulated: how many test examples are asked on emulated processors, at most.

    """
    name, problem, count = subject.name, subject.data.config.problem, min(emulated, len(subject.x))
    say(f"{name}: asking {len(WAYS)} files for {len(subject.x):,} answers each")
    models = {way: onnx_visible((folder / WAYS[way].made / form.FILE).read_bytes()) for way in WAYS}
    here = {way: answers(models[way].model, subject.x, switched=WAYS[way].switched) for way in WAYS}
    _check(folder, here, subject.x[:BATCH])
    unasked = {processor: reason for processor in ELSEWHERE if (reason := missing(processor))}
    there: dict[str, dict[str, FileOutputs]] = {}
    emulators: dict[str, str] = {}
    for processor in ELSEWHERE:
        if processor not in unasked:
            say(f"{name}: asking for {count:,} of them on {processor}")
            emulators[processor], there[processor] = _asked(processor, models, subject.x[:count])

    share = problem == "classification"

    def scores(outputs: FileOutputs) -> Floats:
        return example_scores(problem, subject.y[: len(outputs[0])], outputs[0], subject.data.head.variance)

    def row(way: str) -> WayRow:
        made, switched = WAYS[way].made, WAYS[way].switched
        file = folder / made / form.FILE
        own, full = scores(here[way]), scores(here[FULL])
        outputs = here[way][0]
        classes = problem == "classification"
        return WayRow(
            kilobytes=file.stat().st_size / 1024,
            integer_share=None if switched else form.audit(file.parent, subject.x[:1]).integer_share,
            steps=None if made == "float" else _steps(file, folder / "full" / form.FILE),
            saturating=None if switched else len(form.saturating(file.parent)),
            score=intervals.mean_interval(own, share=share),
            below=None if way == FULL else intervals.paired_interval(full, own, share=share),
            same_class=agreement(here["float"][0], outputs) if classes else None,
            mse=None if classes else float(np.square(outputs - subject.y).mean()),
            score_here=float(own[:count].mean()),
            elsewhere={
                processor: There(
                    differ=_differ(models[way], here[way], outputs[way]),
                    score=float(scores(outputs[way]).mean()),
                    below=intervals.paired_interval(full[:count], scores(outputs[way]), share=share),
                )
                for processor, outputs in there.items()
                if way in outputs
            },
        )

    return NetworkResult(
        network=name,
        says=subject.says,
        score=SCORE_NAMES[problem],
        tests=len(subject.x),
        asked_elsewhere=count,
        emulators=emulators,
        unasked=unasked,
        macs=form.audit(folder / "float", subject.x[:1]).macs,
        digest=digest(folder),
        rows={way: row(way) for way in WAYS},
    )


def _check(folder: Path, here: dict[str, FileOutputs], x: npt.NDArray[np.float32]) -> None:
    """Further outputs could make ONNX Runtime choose other kernels than those that are timed.

    Raises:
        RuntimeError: they did: a file's answers are not those that it gives without them.

    """
    for name, way in WAYS.items():
        (alone,) = answers(str(folder / way.made / form.FILE), x, switched=way.switched)
        if not np.array_equal(alone, here[name][0][: len(x)]):
            raise RuntimeError(f"{name}: the file answers otherwise once its last integers are outputs too")


def _asked(
    processor: str, models: dict[str, Visible], x: npt.NDArray[np.float32]
) -> tuple[str, dict[str, FileOutputs]]:
    """What answers on an emulated processor, in words, and the answers of the files in integers."""
    answers = ask(
        processor,
        {
            way: Question("onnxruntime", model.model, x, settings(switched=WAYS[way].switched))
            for way, model in models.items()
            if way != "float"
        },
        PATIENCE,
    )
    say(f"answered in {answers.seconds:.0f} s")
    runtime = f"ONNX Runtime {answers.libraries['onnxruntime']}"
    return f"{emulator_version(processor)}, -cpu {PROCESSORS[processor].model}, {runtime}", answers.outputs


def _differ(model: Visible, here: FileOutputs, there: FileOutputs) -> float:
    """The share of the examples asked there whose last integers differ."""
    pairs = [(here[number][: len(there[number])], there[number]) for number in model.scales]
    return float(np.any([(one != other).reshape(len(one), -1).any(axis=1) for one, other in pairs], axis=0).mean())


def _steps(file: Path, full: Path) -> float:
    """The size of a file's steps over the full-range file's, averaged over all channels that have weights."""
    own, base = scales(file.read_bytes()), scales(full.read_bytes())
    return float(np.nanmean(np.concatenate([own[name] / base[name] for name in base])))
