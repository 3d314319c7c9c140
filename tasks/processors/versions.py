"""A registered version's files on every processor that can be asked here, compared with what was recorded of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.artifact import Target
from tasks.contract.errors import ProcessorFailed, ProcessorMissing
from tasks.contract.progress import listener
from tasks.evidence.evidence import FileEvidence
from tasks.formats import FORMATS
from tasks.formats.last_integers import VISIBLE, Visible, floats_between
from tasks.formats.slimline_pyfunc import as_steps, as_values
from tasks.formats.tflite.signature import TFLiteTensor, tensors
from tasks.measuring.arrays import Figure
from tasks.processors import NOT_EMULATED, PROCESSORS, Question, ask, emulator_version, missing
from tasks.versions.recorded_answers import CLOSE
from tasks.versions.version import SAMPLE, OpenVersion

LAST_BITS = 1e-5  # of the largest answer: what float kernels behind the last integers differ by is a tenth of it
HALF = 0.02  # of the largest answer, in float16: ARM64 adds up in it, x86 in float32; half of it was seen


class OnProcessor(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a file answers on a processor."""

    processor: str
    target: Target
    ran: str = Field(description="What asked it there, and what that was run by.")
    examples: int = Field(ge=0)
    differing: int = Field(ge=0, description="Examples whose answers are not, bit by bit, those that were recorded.")
    furthest: Figure = Field(ge=0, description="How far the furthest of their answers is off.")
    steps: int | None = Field(
        None, description="How far the furthest of the last integers is from this processor's, in steps; none in float."
    )
    holds: bool = Field(description="Whether that is no more than the format allows.")
    failed: str = Field("", description="Why there is no answer, if there is none.")

    @property
    def in_words(self) -> str:
        """The same for people."""
        if self.failed:
            return self.failed
        if not self.differing and not self.steps:
            return "the same, bit by bit"
        if self.steps == 0 and self.holds:
            return f"the same integers, bit by bit; in float behind them within {self.furthest:.1g}"
        integers = f", and the last integers by up to {self.steps} steps" if self.steps else ""
        within = f"{self.differing} of {self.examples} examples' answers differ by up to {self.furthest:.3g}{integers}"
        return f"{within}: float's last bits" if self.holds and self.steps is None else within


class Everywhere(BaseModel, frozen=True, extra="forbid"):
    """A version's files on every processor."""

    files: tuple[OnProcessor, ...]
    not_asked: dict[str, str] = Field(description="Processors that cannot be asked here, and why.")

    @property
    def holds(self) -> bool:
        """Whether every file that was asked answers as it should."""
        return all(file.holds for file in self.files)


@dataclass(frozen=True)
class _File:
    """A file that is asked, and what its answers are compared with.

    output: what its answers mean, if they are integers. inexact: whether the format allows a step in its last integers.
    """

    about: FileEvidence
    recorded: np.ndarray
    inputs: np.ndarray
    visible: Visible
    output: TFLiteTensor | None
    inexact: bool


def everywhere(version: OpenVersion) -> Everywhere:
    """Ask a version's files for its recorded examples on every processor that can be asked here.

    What integer kernels give has to be the same everywhere, bit by bit. The format allows a step where they take what
    float kernels gave, and in LiteRT, whose specification binds results to the nearest step only; in float, the last
    bits. Every file is opened as it is, as any program would open it.
    """
    files = [_opened(version, file) for file in version.shipped() if file.target in VISIBLE]
    questions = {str(file.about.target): Question(file.about.target, file.visible.model, file.inputs) for file in files}
    answered: list[OnProcessor] = []
    not_asked: dict[str, str] = {}
    here: dict[str, list[np.ndarray]] = {}
    for name in PROCESSORS:
        if reason := missing(name):
            not_asked[name] = reason
            continue
        listener().note("verify", f"asking {version.uri} on {name}")
        try:
            answers = ask(name, questions)
        except ProcessorMissing as error:
            not_asked[name] = str(error).removeprefix(f"{name}: ")
            continue
        except ProcessorFailed as error:
            answered += [_failed(name, file, str(error)) for file in files]
            continue
        here = here or answers.outputs
        libraries = [f"{library} {number}" for library, number in answers.libraries.items() if library != "numpy"]
        ran = ", ".join([*filter(None, [emulator_version(name)]), *libraries])
        answered += [_compared(name, ran, file, answers.outputs, here) for file in files]
    return Everywhere(files=tuple(answered), not_asked=not_asked)


def _opened(version: OpenVersion, file: FileEvidence) -> _File:
    form, folder = FORMATS[file.target], version.files_of(file.target)
    model = (folder / form.FILE).read_bytes()
    with np.load(version.folder / SAMPLE) as sample:
        inputs, recorded = sample["examples"], sample[file.target]
    output, inexact = None, True
    if file.target == "litert":
        first, output = tensors(folder / form.FILE)
        inputs = as_steps(inputs, _details(first))
    else:
        inexact = bool(floats_between(model, form.audit(folder, inputs[:1]).kernels))
    return _File(
        about=file,
        recorded=recorded,
        inputs=inputs,
        visible=VISIBLE[file.target](model) if file.precision == "int8" else Visible(model, {}),
        output=output,
        inexact=inexact,
    )


def _details(tensor: TFLiteTensor) -> dict[str, Any]:
    """A tensor as LiteRT describes it."""
    return {"dtype": np.dtype(tensor.dtype), "quantization": (tensor.scale, tensor.zero_point)}


def _compared(
    name: str, ran: str, file: _File, outputs: dict[str, list[np.ndarray]], here: dict[str, list[np.ndarray]]
) -> OnProcessor:
    """A file's answers somewhere against those that were recorded, and its last integers against this processor's."""
    target = file.about.target
    answers = outputs[target][0]
    if file.output is not None:
        answers = as_values(answers, _details(file.output))
    away = np.abs(answers.astype(np.float64) - file.recorded).reshape(len(answers), -1).max(axis=1)
    if broken := int((~np.isfinite(away)).sum()):
        return _failed(name, file, f"{broken} of {len(away)} examples are answered with NaN or infinity")
    steps = None
    for number, scale in file.visible.scales.items():
        apart = np.abs(outputs[target][number].astype(np.float64) - here[target][number]).max() / scale
        steps = max(steps or 0, round(float(apart)))
    return OnProcessor(
        processor=name,
        target=target,
        ran=ran,
        examples=len(answers),
        differing=int((away > 0).sum()),
        furthest=float(away.max()),
        steps=steps,
        holds=bool(away.max() <= _allowed(file)) and (steps or 0) <= int(file.inexact),
    )


def _allowed(file: _File) -> float:
    """How far answers may be from those that were recorded."""
    largest, step = float(np.abs(file.recorded).max()), float(np.ptp(file.recorded)) / 255
    match file.about.precision:
        case "int8":
            return max(LAST_BITS * largest, step if file.inexact else 0)
        case "dynamic":  # whose steps are computed in float
            return max(CLOSE * largest, step)
        case "float16":
            return HALF * largest
        case _:
            return CLOSE * largest


def _failed(name: str, file: _File, why: str) -> OnProcessor:
    return OnProcessor(
        processor=name,
        target=file.about.target,
        ran=emulator_version(name),
        examples=0,
        differing=0,
        furthest=0,
        holds=False,
        failed=why,
    )


def as_lines(results: Everywhere, differs: str) -> list[str]:
    """A table for a page in Markdown, `differs` beside what should not; a line for each that was not asked."""
    return [
        "",
        "| processor | file | answers | run by | |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {file.processor} | {file.target} | {file.in_words} | {file.ran} | {differs * (not file.holds)} |"
            for file in results.files
        ),
        "",
        *(f"Not asked on {name}: {reason}." for name, reason in results.not_asked.items()),
        NOT_EMULATED,
    ]
