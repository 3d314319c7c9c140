"""A registered version's folder, as register lays it out: opened, and compared with what was recorded of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.contract.artifact import Target, default_target, digest_files
from tasks.contract.errors import VersionError
from tasks.evidence.evidence import Evidence, FileEvidence, open_evidence
from tasks.formats import FORMATS

SAMPLE = "sample.npz"


def place_of(target: Target) -> Path:
    """Where in a version's folder a target's format lies; ONNX at the top, where MLflow looks for it."""
    return Path() if target == "onnxruntime" else Path("formats", target)


@dataclass(frozen=True)
class OpenVersion:
    """A version's folder and its evidence.

    uri: how people call it. folder: `model.onnx`, `formats/<target>/`, `evidence/`, `recipe.yaml`, and the rest.
    """

    uri: str
    folder: Path
    evidence: Evidence

    def shipped(self) -> list[FileEvidence]:
        """What was measured of the files in it, in the order that the recipe has their targets in."""
        return [file for file in self.evidence.files if file.shipped]

    def default(self) -> FileEvidence:
        """What was measured of the file that MLflow asks: that for ONNX Runtime, else for the recipe's first target."""
        shipped = {file.target: file for file in self.shipped()}
        return shipped[default_target(shipped)]

    def lacks(self, target: Target) -> str:
        """That it has no file for a target, and the way out, in a sentence; empty if it has one."""
        shipped = [file.target for file in self.shipped()]
        if target in shipped:
            return ""
        return (
            f"has no file for {target}, only for {', '.join(shipped)}: put `targets: "
            f"[{', '.join([*shipped, target])}]` into its recipe and compress again"
        )

    def files_of(self, target: Target) -> Path:
        """The folder that the target's format can open."""
        return self.folder / place_of(target)

    def digest_of(self, target: Target) -> str:
        """The digest of a target's file as it is now, made as its artifact's was."""
        folder = self.files_of(target)
        if target == "onnxruntime":
            return digest_files(folder, [FORMATS[target].FILE])
        return digest_files(folder, _names(folder))


def open_version(uri: str, folder: Path) -> OpenVersion:
    """Open a version's folder.

    Raises:
        VersionError: it was not laid out by register, or a file in it is not the one that was measured.

    """
    if not (folder / "evidence").is_dir():
        raise VersionError(
            "version", uri, "has no evidence with it: Slimline did not register it; compress it with `slimline run`"
        )
    version = OpenVersion(uri, folder, open_evidence(folder / "evidence"))
    for file in version.shipped():
        actual = version.digest_of(file.target) if version.files_of(file.target).is_dir() else "nothing"
        if actual != file.sha256:
            raise VersionError(
                "version",
                uri,
                f"its {file.target} file is not the one that was measured: sha256 {actual[:12]}, recorded "
                f"{file.sha256[:12]}. The store was changed or is damaged: compress again, and put another version "
                "in service",
            )
    return version


def _names(folder: Path) -> Iterable[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
