"""An ARM64 system in a folder, for QEMU: the distribution's Python for ARM64, and the runtimes' own wheels.

Nothing is installed on this machine, and nobody has to be root: apt has folders of its own, in which no package is
installed yet, so that it brings all that Python needs. It verifies the distribution's signatures; wheels are checked by
their hashes.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.contract.errors import ProcessorMissing
from tasks.contract.progress import listener
from tasks.contract.state_folder import alone

WHEELS = Path(__file__).parent / "arm64.txt"
PYTHONS = ("python3.11", "python3.12", "python3.13")  # those that every wheel in it is made for
PACKAGES = ("libstdc++6",)  # which Python does not need, and the runtimes do
PLATFORM = "aarch64-manylinux_2_28"  # the oldest C library that the runtimes are made for; Debian 12 has 2.36
PATIENCE = 900  # seconds for each download: some 100 MB in all

# What Linux says of a processor, by QEMU's name for it: its part number, and the features that QEMU gives to it.
MODELS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
CPUINFO = """\
processor	: 0
BogoMIPS	: 108.00
Features	: {features}
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: {part}
CPU revision	: 1

"""
# One core, described as far as the runtimes read it. What is not here they would read of this machine.
SYSTEM = {
    **dict.fromkeys(("possible", "present", "online"), "0"),
    **{f"cpu0/topology/{name}": "0" for name in ("physical_package_id", "core_id")},
    **{f"cpu0/topology/{name}": "0" for name in ("cluster_cpus_list", "core_siblings_list", "thread_siblings_list")},
    **{f"cpu0/cpufreq/cpuinfo_{name}_freq": "1500000" for name in ("min", "max")},
    **{f"cpu0/cache/index2/{name}": value for name, value in (("level", "2"), ("size", "512K"), ("type", "Unified"))},
    "cpu0/cache/index2/shared_cpu_list": "0",
}


def folder() -> Path:
    """Where it is, if it was made: a part of this environment, as its libraries are; made anew when its pins change."""
    pins = hashlib.sha256(WHEELS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return Path(sys.prefix) / "share" / "slimline" / f"arm64-{pins}"


def python(system: Path, model: str, environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that starts the system's Python on QEMU's processor `model`, and its environment."""
    (program,) = [program for name in PYTHONS if (program := system / "root" / "usr" / "bin" / name).is_file()]
    # without -S Debian's Python would look for packages in this machine's /usr/lib/python3 too
    command = ["qemu-aarch64", "-cpu", model, "-L", str(system / model), str(program), "-S", "-P"]
    return command, {**environment, "PYTHONPATH": str(system / "wheels")}


def make() -> Path:
    """The system's folder, made if it is not there: beside, and renamed when it is whole and its runtimes start.

    Raises:
        ProcessorMissing: something that it takes is not here, or not offered; says what.

    """
    made = folder()
    made.parent.mkdir(parents=True, exist_ok=True)
    with alone(made.with_suffix(".lock"), lambda: listener().note("processors", "another process is making it")):
        if made.is_dir():
            return made
        for needed in ("qemu-aarch64", "apt-get", "apt-cache", "dpkg"):
            if not shutil.which(needed):
                way = "apt-get install qemu-user" if needed == "qemu-aarch64" else "Debian has it, and its like"
                raise ProcessorMissing(f"ARM64: {needed} is not installed: {way}")
        for old in made.parent.glob("arm64-*/"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=made.parent, prefix=".arm64-") as place:
            system = Path(place) / "system"
            name = _unpack(Path(place), system / "root")
            install = ["-m", "uv", "pip", "install", "--quiet", "--target", str(system / "wheels"), "--no-deps"]
            install += ["--python-platform", PLATFORM, "--python-version", name.removeprefix("python")]
            install += ["--only-binary", ":all:", "--require-hashes", "-r", str(WHEELS)]
            _run([sys.executable, *install], "its wheels cannot be had")
            for model in MODELS:
                _describe(system, model)
                command, environment = python(system, model, {})
                starts = "import numpy, onnxruntime, ai_edge_litert.interpreter"
                _run([*command, "-c", starts], "its runtimes do not start", environment)
            system.rename(made)
    return made


def _unpack(place: Path, root: Path) -> str:
    """Fill `root` with Python and all that it needs; gives the name of Python's package."""
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    place.chmod(0o755)  # apt downloads as a user of its own where it can
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Dir::State": place,
        "Dir::State::lists": place / "lists",
        "Dir::State::status": place / "status",
        "Dir::Cache": place,
        "Dir::Cache::archives": place / "archives",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    nothing = "this distribution's servers offer no packages for it"
    _run(["apt-get", *options, "update"], nothing)
    offered = _run(["apt-cache", *options, "pkgnames", "python3."], nothing).split()
    name = next((each for each in PYTHONS if each in offered), "")
    if not name:
        raise ProcessorMissing(f"ARM64: this distribution offers none of {', '.join(PYTHONS)} for it")
    _run(["apt-get", *options, "--yes", "--download-only", "install", name, *PACKAGES], f"{name} cannot be had for it")
    root.mkdir(parents=True)
    for package in sorted((place / "archives").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)], f"{package.name} cannot be unpacked")
    for merged in ("bin", "lib", "sbin"):
        if not (root / merged).exists():  # links into usr since Debian 13, of a package that nothing here needs
            (root / merged).symlink_to(Path("usr") / merged)
    return name


def _describe(system: Path, model: str) -> None:
    """The system as it looks on a processor: its files, and what Linux would say of the processor.

    Without that, programs read what this machine's Linux says of this machine's, under QEMU too, and do not expect to
    meet an x86: cpuinfo, which ONNX Runtime and LiteRT ask, then follows a null pointer.
    """
    place = system / model
    place.mkdir()
    for part in (system / "root").iterdir():
        (place / part.name).symlink_to(Path("..") / "root" / part.name)
    number, features = MODELS[model]
    files = {f"sys/devices/system/cpu/{name}": f"{value}\n" for name, value in SYSTEM.items()}
    files["proc/cpuinfo"] = CPUINFO.format(part=number, features=features)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)


def _run(command: Sequence[str], otherwise: str, environment: dict[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        ProcessorMissing: it fails, which means `otherwise`.

    """
    done = subprocess.run(  # noqa: S603  our own commands
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        raise ProcessorMissing(f"ARM64: {otherwise}: {command[0]} ended with {done.returncode}: {lines[-1][:300]}")
    return done.stdout
