"""What a measurement was made on: processor, load, operating system and library versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, Field

# What decides how fast integers and floats run, in the names of Linux's /proc/cpuinfo (x86, then ARM).
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# The ones that decide how integers are multiplied and added up, in the order in which runtimes prefer them.
INTEGER_INSTRUCTIONS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512, no VNNI",
    "avx2": "AVX2, no VNNI",
    "avx": "AVX, no AVX2",
    "sse4_2": "SSE4.2",
    "i8mm": "NEON i8mm",
    "asimddp": "NEON dot product",
    "asimd": "NEON",
}
LIBRARIES = (
    *("ai-edge-litert", "numpy", "onnx", "onnx-ir", "onnxruntime", "tensorflow", "tensorflow-model-optimization"),
    *("tf-keras", "tf2onnx"),
)


class Machine(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Where and beside what it was measured: a latency means nothing without it."""

    processor: str = Field(description="The processor's name, as the system gives it.")
    architecture: str = Field(description="Such as x86_64 or aarch64.")
    instruction_sets: tuple[str, ...] = Field(description="The ones it has of those that decide the speed of kernels.")
    cores: int = Field(ge=1, description="Logical processors of the machine.")
    usable_cores: int = Field(ge=1, description="Logical processors that this process may run on.")
    memory_bytes: int = Field(ge=0, description="Of the machine; 0 if unknown.")
    virtual: bool = Field(
        description="Whether a hypervisor is seen: neighbours on the host may then slow a measurement."
    )
    governor: str = Field(description="How the processor chooses its clock; empty if unknown.")
    operating_system: str = Field(description="Its name and the kernel's version.")
    python: str = Field(description="Its version.")
    libraries: dict[str, str] = Field(description="Versions of the libraries that shape what was measured.")
    load_before: float = Field(ge=0, description="Load average over one minute, before measuring.")
    load_after: float = Field(ge=0, description="And after.")

    @property
    def integer_instructions(self) -> str:
        """What integers are multiplied and added up with, in people's words: answers and times are those of it."""
        has = (words for name, words in INTEGER_INSTRUCTIONS.items() if name in self.instruction_sets)
        return next(has, "instruction sets not told")

    @property
    def name(self) -> str:
        """The processor, and what integers are computed with on it."""
        return f"{self.processor} ({self.integer_instructions})"


def comparable(one: Machine, other: Machine) -> bool:
    """Whether figures of two machines can be compared, latency included: the same processor, with the same sets.

    The sets show what a name does not: a hypervisor may hide some of them.
    """
    return (one.processor, one.instruction_sets) == (other.processor, other.instruction_sets)


def load_average() -> float:
    """Processes that ran or waited over the last minute; 0 where the system has none."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return 0.0


def describe_machine(load_before: float) -> Machine:
    """The machine that we are on, now; `load_before` is what `load_average` gave before the measurement."""
    facts = _processor_facts()
    flags = set(facts.get("flags", facts.get("features", "")).split())
    governor = _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    return Machine(
        processor=facts.get("model name", "") or platform.processor() or "unknown",
        architecture=platform.machine(),
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        memory_bytes=_memory_bytes(),
        virtual="hypervisor" in flags,
        governor=governor.strip(),
        operating_system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries=library_versions(),
        load_before=load_before,
        load_after=load_average(),
    )


def library_versions() -> dict[str, str]:
    """The versions of those that are installed, by name."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # it then shaped nothing here
            continue
    return versions


def _processor_facts() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo, keys in lower case; empty where there is none."""
    facts: dict[str, str] = {}
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    return facts


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not a Linux machine, or a container that hides it
        return ""


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
