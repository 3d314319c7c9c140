"""A registered version's folder, as register lays it out: opened, when it is what was registered."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.contract.artifact import Target, digest_file, digest_files
from tasks.contract.errors import NOTHING, FileDifference, VersionDamaged, VersionError
from tasks.evidence.evidence import Evidence, FileEvidence, open_evidence
from tasks.formats import FORMATS
from tasks.versions.manifest import MANIFEST, differences

SAMPLE = "sample.npz"  # examples with the answers of each target's file; records where there are several
# MLflow writes the version's name and number here whenever it is downloaded, and nothing of a version reads it.
MLFLOW_NOTE = "registered_model_meta"
SIGNATURE = "model.sig"  # made of the manifest too, so that the manifest cannot have it


def place_of(target: Target) -> Path:
    """Where in a version's folder a target's format lies; ONNX at the top, where MLflow looks for it."""
    return Path() if target == "onnxruntime" else Path("formats", target)


@dataclass(frozen=True)
class OpenVersion:
    """A version's folder and its evidence.

    uri: how people call it. folder: `model.onnx`, `formats/<target>/`, `evidence/`, `recipe.yaml`, and the rest.
    manifest: the sha256 of the manifest that every file was compared with; empty if there is none.
    signed_by: the sha256 of the public key that its signature was held against; empty if it was not.
    """

    uri: str
    folder: Path
    evidence: Evidence
    manifest: str = ""
    signed_by: str = ""

    def shipped(self) -> list[FileEvidence]:
        """What was measured of the files in it, in the order that the recipe has their targets in."""
        return [file for file in self.evidence.files if file.shipped]

    def default(self) -> FileEvidence:
        """What was measured of the file that MLflow asks: that for ONNX Runtime, else for the recipe's first target."""
        return self.evidence.served()

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
        """The digest of a target's file as it is now, made as its artifact's was; `nothing` if it is not there."""
        folder, file = self.files_of(target), FORMATS[target].FILE
        if not (folder / file).exists():
            return NOTHING
        return digest_files(folder, [file] if target == "onnxruntime" else _names(folder))

    def unsealed(self) -> str:
        """What of it nothing was compared with, in a sentence; empty if every file was."""
        if self.manifest:
            return ""
        return (
            f"{self.uri} was registered before versions had a manifest: only its formats' files were compared with "
            "its evidence, and MLmodel, labels, profile, sample, requirements and card with nothing. Compress again "
            "for a version that can be checked whole"
        )

    def signature(self) -> str:
        """Whose signature it has, in a sentence; empty if it has none."""
        if self.signed_by:
            return f"Signed by the public key with sha256 {self.signed_by}"
        if (self.folder / SIGNATURE).is_file():
            return f"{SIGNATURE} was not checked: SLIMLINE_PUBLIC_KEY names the file of the public key to do it by"
        return ""


def open_version(uri: str, folder: Path, manifest: str | None = None) -> OpenVersion:
    """Open a version's folder, when each file in it is the one that was registered, and none is missing or more.

    Args:
        uri: how people call it.
        folder: its files.
        manifest: the sha256 of its manifest, as the registry has it; empty if the registry has none, as of versions
            that were registered before there were any; none where there is no registry to ask.

    Raises:
        VersionError: it was not laid out by register.
        VersionDamaged: files are damaged, missing or more; names every one.

    """
    has = (folder / MANIFEST).exists()
    if (manifest or has) and (found := differences(folder, manifest, beside={MLFLOW_NOTE, SIGNATURE})):
        raise VersionDamaged(uri, found)
    if not (folder / "evidence").is_dir():
        raise VersionError(
            "version", uri, "has no evidence with it: Slimline did not register it; compress it with `slimline run`"
        )
    evidence = open_evidence(folder / "evidence")
    version = OpenVersion(uri, folder, evidence, digest_file(folder / MANIFEST) if has else "")
    formats = [
        FileDifference((place_of(file.target) / FORMATS[file.target].FILE).as_posix(), file.sha256, actual)
        for file in version.shipped()
        if (actual := version.digest_of(file.target)) != file.sha256
    ]
    if formats:
        raise VersionDamaged(uri, formats)
    return version


def _names(folder: Path) -> Iterable[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
