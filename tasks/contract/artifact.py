"""What stages hand to each other: a few hundred bytes that say what was made, where it is, and from what."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

Format = Literal["keras", "onnx", "tflite", "savedmodel"]
Precision = Literal["float32", "float16", "dynamic", "int8"]
Target = Literal["onnxruntime", "litert", "savedmodel", "tensorrt"]
Role = Literal["teacher", "student", "compressed"]

FORMAT_OF: dict[Target, Format] = {
    "onnxruntime": "onnx",
    "litert": "tflite",
    "savedmodel": "savedmodel",
    "tensorrt": "onnx",
}


def default_target(targets: Iterable[Target]) -> Target:
    """The target whose file MLflow asks by default: ONNX Runtime's, which needs the least, else the recipe's first."""
    named = list(targets)
    return "onnxruntime" if "onnxruntime" in named else named[0]


class Artifact(BaseModel, frozen=True, extra="forbid"):
    """Something in the store, named by its content."""

    stage: str = Field(description="The stage that made it.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The content's digest, as `digest_folder` gives it.")
    uri: str = Field(description="Where the bytes are: `models:/m-…` or `runs:/…/folder`.")
    run: str = Field(description="The MLflow run that made it.")
    key: str = Field("", description="The cache key that it was made under: what it was made from, and by which code.")


class ModelArtifact(Artifact, frozen=True):
    """A model in the store."""

    format: Format
    precision: Precision = Field(
        "float32", description="The numbers that it computes in; Keras models of int8 carry fake-quantize nodes."
    )
    parent: str | None = Field(None, description="The sha256 of the model that it was made from.")


class EvidenceArtifact(Artifact, frozen=True):
    """A folder in the store with what a stage measured: JSON, and where it has them its page and plots."""


class ChoiceArtifact(Artifact, frozen=True):
    """Which of several ways to quantize goes on for each target; `choice.json` in the store says why."""

    chosen: dict[Target, str] = Field(description="The name of the way, by target.")


class VersionArtifact(Artifact, frozen=True):
    """A version of a registered model."""

    name: str
    version: int
    content: str = Field(
        pattern="^[0-9a-f]{64}$", description="Of the files that ship: what makes it the same version."
    )


class BundleArtifact(Artifact, frozen=True):
    """A registered version laid out for a server, with a manifest of its files."""

    server: str = Field(description="Which server takes it as it is.")


def digest_file(path: Path) -> str:
    """The sha256 of one file, in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    r"""The sha256 over a folder's files: of the lines `<sha256>  <path>` in path order, as `sha256sum` prints them.

    Anyone can re-check it: `find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`.
    """
    return digest_files(folder, (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))


def digest_files(folder: Path, names: Iterable[str]) -> str:
    """The same over these files of a folder alone: the digest that a folder with nothing else in it has."""
    lines = (f"{digest_file(folder / name)}  {name}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
