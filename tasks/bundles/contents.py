"""What a bundle is made of, and the words in which all servers' files are written."""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.bundles.outputs import Output
from tasks.contract.artifact import Target, digest_folder
from tasks.contract.errors import TargetMissing
from tasks.contract.named import Array, fields
from tasks.evidence.evidence import FILE as EVIDENCE
from tasks.evidence.evidence import FileEvidence
from tasks.versions.labels import LABELS, read_labels
from tasks.versions.version import SAMPLE, OpenVersion

if TYPE_CHECKING:
    import jinja2

ServerName = Literal["tfserving", "triton", "kserve", "docker", "edge"]
TEMPLATES = Path(__file__).parent / "templates"


class BundleConfig(BaseModel, frozen=True, extra="forbid", title="Bundle"):
    """A server's settings beside the model. What a server has no use for is left out of its bundle."""

    max_batch: int = Field(
        64,
        ge=1,
        le=8192,
        description="Most examples in a call. More raises throughput, takes memory, and lengthens the slowest answers.",
        json_schema_extra={"position": 0},
    )
    batch_delay_us: int = Field(
        500,
        ge=0,
        le=1_000_000,
        description="Microseconds that a request may wait for others to share a call with. More fills batches.",
        json_schema_extra={"position": 1},
    )
    instances: int = Field(
        1,
        ge=1,
        le=64,
        description="Copies of the model that answer at the same time (triton), or threads that run batches "
        "(tfserving). More uses more cores.",
        json_schema_extra={"position": 2},
    )
    cpus: int = Field(
        2,
        ge=1,
        le=256,
        description="Processors that a container may use.",
        json_schema_extra={"position": 3},
    )
    memory_mib: int = Field(
        1024,
        ge=128,
        le=1_048_576,
        description="Memory that a container may use, in MiB.",
        json_schema_extra={"position": 4},
    )
    min_replicas: int = Field(
        1,
        ge=0,
        le=1000,
        description="kserve: fewest pods. 0 frees all while nobody asks, and the first to ask again waits for a start.",
        json_schema_extra={"position": 5},
    )
    max_replicas: int = Field(
        4,
        ge=1,
        le=1000,
        description="kserve: most pods.",
        json_schema_extra={"position": 6},
    )
    concurrency: int = Field(
        8,
        ge=1,
        le=10_000,
        description="kserve: requests under way in one pod, above which another is started.",
        json_schema_extra={"position": 7},
    )
    canary_percent: int = Field(
        10,
        ge=0,
        le=100,
        description="kserve: share of the traffic that this version gets beside the one before; 100 is all of it.",
        json_schema_extra={"position": 8},
    )
    storage: str = Field(
        "pvc://slimline-models",
        pattern="^[a-z0-9]+://[^ ]*[^ /]$",
        description="kserve: where models are copied to; this one to <storage>/<name>/<version>.",
        json_schema_extra={"position": 9},
    )


@dataclass(frozen=True)
class Contents:
    """A version that is laid out. name: as registered. number: its version's."""

    name: str
    number: int
    version: OpenVersion
    config: BundleConfig

    def file(self, server: ServerName, target: Target) -> FileEvidence:
        """What was measured of a target's file.

        Raises:
            TargetMissing: the version has none.

        """
        if lacks := self.version.lacks(target):
            raise TargetMissing("to", server, f"{self.version.uri} {lacks}")
        return next(file for file in self.version.shipped() if file.target == target)

    def files(self, server: ServerName, target: Target) -> Path:
        """The folder with a target's file; raises as `file`."""
        self.file(server, target)
        return self.version.files_of(target)

    def outputs(self, target: Target) -> tuple[Output, ...]:
        """What each output of a target's file answers."""
        answers, labels = fields(self.sample()[target]), read_labels(self.version.folder)
        heads = self.version.evidence.by_head
        return tuple(Output(name, head.problem, labels[name], answers[name]) for name, head in heads.items())

    @property
    def evidence_sha256(self) -> str:
        """The digest of the evidence, as its artifact has it."""
        return digest_folder(self.version.folder / "evidence")

    def sample(self) -> dict[str, Array]:
        """Recorded `examples` `(n, …)`, and each target's answers to them."""
        return read_sample(self.version.folder)

    def copy_reference_files(self, folder: Path) -> None:
        """Copy what answers are compared with into a folder: labels, the sample with recorded answers, the evidence."""
        for name in (LABELS, SAMPLE, f"evidence/{EVIDENCE}"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.version.folder / name, folder / name)


def read_sample(folder: Path) -> dict[str, Array]:
    """All arrays of a folder's `sample.npz`."""
    with np.load(folder / SAMPLE) as sample:
        return dict(sample)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder's files with plain permissions: a store may keep them for its owner alone, a server is another."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def render(template: str, file: Path, **values: Any) -> None:
    """Write a file from its template."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_environment().get_template(template).render(**values), encoding="utf-8")


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701  YAML, text protos and Markdown, none of it shown by a browser
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
