"""Processors that are not here: what a file answers there, asked under QEMU with the runtimes that it would meet."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.contract.artifact import Target
from tasks.contract.errors import ProcessorFailed, ProcessorMissing
from tasks.processors import arm64

PROGRAM = Path(__file__).parent.parent / "formats" / "elsewhere.py"  # beside what it does as
PATIENCE = 600  # seconds for all files of one call; a start takes 1 to 20, and then each file a fraction of one
NOT_EMULATED = "QEMU emulates no AVX-512: kernels that use it, VNNI's too, are run only where this processor has it."


@dataclass(frozen=True)
class Processor:
    """One that files can be asked on.

    like: what has such a processor. emulator, model: QEMU's program, and its name for the processor; empty for this
    one. has, lacks: the instruction sets that make the difference, in NumPy's words.
    """

    like: str
    emulator: str = ""
    model: str = ""
    has: frozenset[str] = field(default=frozenset())
    lacks: frozenset[str] = field(default=frozenset())


# Two of a kind where integer kernels come in two kinds: with and without the instructions that multiply four bytes.
PROCESSORS: dict[str, Processor] = {
    "this": Processor("this machine"),
    "x86 without AVX2": Processor("PCs until 2013, small Atoms", "qemu-x86_64", "Nehalem", lacks=frozenset({"AVX2"})),
    "x86 with AVX2, without VNNI": Processor(
        "Intel until 2019, AMD until Zen 3", "qemu-x86_64", "Haswell", frozenset({"AVX2"}), frozenset({"AVX512F"})
    ),
    "ARM64": Processor("phones since 2018, Raspberry Pi 5", "qemu-aarch64", "cortex-a76", frozenset({"ASIMDDP"})),
    "ARM64 without dot products": Processor(
        "Raspberry Pi 4 and before", "qemu-aarch64", "cortex-a72", lacks=frozenset({"ASIMDDP"})
    ),
}


@dataclass(frozen=True)
class Question:
    """A file and what it is asked.

    model: its bytes. inputs: `(n, …)`, in the type that its input has, or records of several. settings: entries of ONNX
    Runtime's session.
    """

    target: Target
    model: bytes
    inputs: np.ndarray
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """What files answered somewhere.

    outputs: by question, all outputs `(n, …)` in the file's order and types. instruction_sets: the processor's, in
    NumPy's words. libraries: their versions. seconds: all in all, with the start.
    """

    outputs: dict[str, list[np.ndarray]]
    machine: str
    instruction_sets: frozenset[str]
    libraries: dict[str, str]
    seconds: float


def missing(name: str) -> str:
    """Why a processor cannot be asked here, and how it could be; empty if it can."""
    processor = PROCESSORS[name]
    if not processor.emulator:
        return ""
    if sys.platform != "linux":
        return f"QEMU runs programs for other processors on Linux only, and this is {platform.system()}"
    if processor.emulator == "qemu-x86_64" and platform.machine() != "x86_64":
        return f"this Python and its libraries are for {platform.machine()}, and would have to be for x86_64"
    if not shutil.which(processor.emulator):
        return f"{processor.emulator} is not installed: apt-get install qemu-user"
    if processor.emulator == "qemu-aarch64" and not arm64.folder().is_dir():
        return "no ARM64 system is here: make processors"
    return ""


def emulator_version(name: str) -> str:
    """What emulates a processor, such as `QEMU 7.2.22`; empty for this one."""
    emulator = PROCESSORS[name].emulator
    if not emulator:
        return ""
    command = [emulator, "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout  # noqa: S603  from the table above
    return f"QEMU {printed.partition('version ')[2].split()[0]}"


def python(name: str) -> tuple[list[str], dict[str, str]]:
    """The command that starts a Python there, and its whole environment: nothing of this process's settings goes along.

    Raises:
        ProcessorMissing: it cannot be started here.

    """
    if reason := missing(name):
        raise ProcessorMissing(f"{name}: {reason}")
    processor = PROCESSORS[name]
    environment = {each: os.environ[each] for each in ("PATH", "HOME", "LANG", "TMPDIR") if each in os.environ}
    # one thread, as files are asked; more would be started for each processor of the host
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    if processor.emulator == "qemu-aarch64":
        return arm64.python(arm64.folder(), processor.model, environment)
    emulated = [processor.emulator, "-cpu", processor.model] if processor.emulator else []
    return [*emulated, sys.executable, "-P"], environment  # -P: the program's own folder holds modules named as ours


def ask(name: str, questions: Mapping[str, Question], patience: float = PATIENCE) -> Answers:
    """What files answer on a processor, all in one process there.

    Args:
        name: one of `PROCESSORS`.
        questions: by any name.
        patience: seconds until it has failed.

    Raises:
        ProcessorMissing: it cannot be asked here; says why, and how it could be.
        ProcessorFailed: one of the files ends the program there, or it takes too long; says which.

    """
    command, environment = python(name)
    with tempfile.TemporaryDirectory(prefix="slimline-processor-") as work:
        question, answer = Path(work) / "question.npz", Path(work) / "answer.npz"
        numbered = {f"{each.target}/{number}": each for number, each in enumerate(questions.values())}
        arrays = {f"{key}/model": np.frombuffer(each.model, np.uint8) for key, each in numbered.items()}
        arrays |= {f"{key}/inputs": each.inputs for key, each in numbered.items()}
        arrays |= {f"{key}/settings": np.array(json.dumps(dict(each.settings))) for key, each in numbered.items()}
        np.savez(question, **arrays)  # type: ignore[arg-type]  # its next argument is a switch
        began = time.monotonic()
        try:
            done = subprocess.run(  # noqa: S603  our own program
                [*command, str(PROGRAM), str(question), str(answer)],
                env=environment,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=patience,
            )
        except subprocess.TimeoutExpired as error:
            raise ProcessorFailed(
                f"{name}: no answers within {patience:g} s: ask fewer files at once than {len(questions)}"
            ) from error
        about, *announced = done.stdout.splitlines() or [""]
        if not about:
            raise ProcessorMissing(f"{name}: the runtimes do not start there: {_last(done)}")
        report = json.loads(about)
        _check(name, frozenset(report["instruction_sets"]))
        if done.returncode:
            which = dict(zip(numbered, questions, strict=True)).get(
                announced[-1] if announced else "", "the first file"
            )
            raise ProcessorFailed(f"{name}: {which} is not answered there: {_last(done)}")
        with np.load(answer) as saved:
            outputs = {each: _outputs(saved, key) for key, each in zip(numbered, questions, strict=True)}
    return Answers(
        outputs=outputs,
        machine=report["machine"],
        instruction_sets=frozenset(report["instruction_sets"]),
        libraries=report["libraries"],
        seconds=time.monotonic() - began,
    )


def _outputs(saved: Mapping[str, np.ndarray], key: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{key}/") for name in saved)
    return [saved[f"{key}/{number}"] for number in range(count)]


def _check(name: str, instruction_sets: Iterable[str]) -> None:
    """An older QEMU leaves out what it does not know, and only warns: answers would be another processor's.

    Raises:
        ProcessorMissing: what should be there is not, or the other way round.

    """
    expected, actual = PROCESSORS[name], set(instruction_sets)
    absent, more = sorted(expected.has - actual), sorted(expected.lacks & actual)
    if absent or more:
        raise ProcessorMissing(
            f"{name}: {emulator_version(name)} gives it {'no ' if absent else ''}{', '.join(absent or more)}: "
            "take QEMU 7.2 or later"  # the first with AVX2
        )


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    """How a program ended, and its last line of errors."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and "TCG doesn't support" not in line]
    return f"exit code {done.returncode}, {lines[-1][:300] if lines else 'nothing was said'}"
