"""A registered version's files on every processor that can be asked here, compared with what was recorded of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.artifact import Target
from tasks.contract.errors import ProcessorFailed, ProcessorMissing
from tasks.contract.named import ONE, Array, by_name, field, packed
from tasks.contract.progress import listener
from tasks.evidence.evidence import FileEvidence
from tasks.formats import FORMATS
from tasks.formats.last_integers import VISIBLE, Visible, floats_between
from tasks.formats.onnx.signature import signature
from tasks.formats.slimline_pyfunc import as_steps, as_values
from tasks.formats.tflite.signature import TFLiteTensor
from tasks.formats.tflite.signature import signature as tflite_signature
from tasks.measuring.arrays import Figure
from tasks.processors import NOT_EMULATED, PROCESSORS, Question, ask, emulator_version, missing
from tasks.versions.recorded_answers import CLOSE
from tasks.versions.version import SAMPLE, OpenVersion

AS_IT_IS: dict[str, Any] = {"dtype": np.float32, "quantization": (0.0, 0)}  # of a tensor that is in no steps
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

    outputs: by name, in the file's order, as LiteRT describes them. inexact: whether the format allows a step in its
    last integers.
    """

    about: FileEvidence
    recorded: Array
    inputs: Array
    visible: Visible
    outputs: dict[str, dict[str, Any]]
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
    if file.target == "litert":
        taken, given = ({end.called: _details(end) for end in ends} for ends in tflite_signature(folder / form.FILE))
        sent = by_name(inputs, list(taken))
        inputs, inexact = packed({name: as_steps(values, taken[name]) for name, values in sent.items()}), True
    else:
        given = {end.name: AS_IT_IS for end in signature(folder / form.FILE)[1]}
        inexact = bool(floats_between(model, form.audit(folder, inputs[:1]).kernels))
    return _File(
        about=file,
        recorded=recorded,
        inputs=inputs,
        visible=VISIBLE[file.target](model) if file.precision == "int8" else Visible(model, {}),
        outputs=given if recorded.dtype.names else {ONE: next(iter(given.values()))},
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
    given = zip(file.outputs.items(), outputs[target][: len(file.outputs)], strict=True)
    away = {name: _away(as_values(values, details), field(file.recorded, name)) for (name, details), values in given}
    furthest = np.max(list(away.values()), axis=0)  # each example's, by whatever output
    if broken := int((~np.isfinite(furthest)).sum()):
        return _failed(name, file, f"{broken} of {len(furthest)} examples are answered with NaN or infinity")
    steps = None
    for number, scale in file.visible.scales.items():
        apart = np.abs(outputs[target][number].astype(np.float64) - here[target][number]).max() / scale
        steps = max(steps or 0, round(float(apart)))
    return OnProcessor(
        processor=name,
        target=target,
        ran=ran,
        examples=len(furthest),
        differing=int((furthest > 0).sum()),
        furthest=float(furthest.max()),
        steps=steps,
        holds=all(each.max() <= _allowed(file, output) for output, each in away.items())
        and (steps or 0) <= int(file.inexact),
    )


def _away(answers: Array, recorded: Array) -> Array:
    """How far each example's answer is from the one that was recorded; infinite where it is no number."""
    away: Array = np.abs(answers.astype(np.float64) - recorded).reshape(len(answers), -1).max(axis=1)
    return np.nan_to_num(away, nan=np.inf)


def _allowed(file: _File, output: str) -> float:
    """How far an output's answers may be from those that were recorded."""
    recorded = field(file.recorded, output)
    largest, step = float(np.abs(recorded).max()), float(np.ptp(recorded)) / 255
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
