"""Register: what passed becomes a version of a registered model, with all that it takes to trust and to run it."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import yaml
from prefect.runtime import flow_run
from pydantic import BaseModel, Field

from tasks.contract.artifact import (
    Artifact,
    EvidenceArtifact,
    ModelArtifact,
    Target,
    VersionArtifact,
    default_target,
    digest_folder,
)
from tasks.contract.errors import StoreError, VersionDamaged
from tasks.contract.named import by_name, fields, packed
from tasks.contract.progress import listener
from tasks.data import DataArtifact, open_prepared
from tasks.drift.profile import FILE as PROFILE
from tasks.drift.profile import open_predictions, write_profile
from tasks.evidence.card import render_card
from tasks.evidence.evidence import headline, open_evidence
from tasks.evidence.page import PAGE
from tasks.formats import FORMATS
from tasks.formats.slimline_pyfunc import open_file
from tasks.measuring.answers import Outputs
from tasks.store import pages, registry, tracking
from tasks.store.commit import git_commit
from tasks.store.stage import StageRun, stage
from tasks.versions.labels import write_labels
from tasks.versions.manifest import write_manifest
from tasks.versions.registered import MANIFEST_TAG, open_whole
from tasks.versions.signature import sign, signs
from tasks.versions.version import SAMPLE as SAMPLE_FILE
from tasks.versions.version import SIGNATURE, place_of

SAMPLE = 16  # examples with their answers in `sample.npz`: enough to tell a wrong file, few enough to ship
FLOATS = ("teacher", "student")  # names of the float models, which every version descends from


class RegisterConfig(BaseModel, frozen=True, extra="forbid", title="Register"):
    """Where the version goes."""

    name: str = Field(
        "",
        pattern="^([a-z0-9][a-z0-9_-]{0,62})?$",
        description="The registered model's name; empty takes the recipe's.",
        json_schema_extra={"position": 0},
    )
    alias: str = Field(
        "candidate",
        pattern="^[a-z][a-z0-9_-]{0,62}$",
        description="The alias that is put on the new version.",
        json_schema_extra={"position": 1},
    )
    description: str = Field(
        "",
        max_length=2000,
        description="What the model is for, in a sentence; heads its card.",
        json_schema_extra={"position": 2},
    )


def content_digest(
    files: dict[Target, ModelArtifact],
    recipe: str,
    data: DataArtifact,
    columns: Sequence[str] = (),
    encoding: Sequence[dict[str, Any]] = (),
) -> str:
    """What makes two versions the same: the files that ship, the recipe and the data, not when or where it was made.

    A table's `columns` and their `encoding` are part of it: its values are the same under other names.
    """
    content: dict[str, Any] = {
        "files": {target: file.sha256 for target, file in files.items()},
        "recipe": digest_text(recipe),
        "data": data.digest,
    }
    if columns:
        content["columns"] = list(columns)
    if encoding:
        content["encoding"] = list(encoding)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_text(text: str) -> str:
    """The sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    """All that goes into a version; the fields are the parameters of `register_version`."""

    name: str
    recipe: str
    files: dict[Target, ModelArtifact]
    evidence: EvidenceArtifact
    data: DataArtifact
    models: dict[str, ModelArtifact]
    config: RegisterConfig

    @property
    def lineage(self) -> dict[str, Artifact]:
        """What the version was made from, by step: of the models those that a file that ships descends from."""
        made = {file.parent for file in self.files.values()}
        kept = {name: model for name, model in self.models.items() if name in FLOATS or model.sha256 in made}
        return {"data": self.data, **kept, "evidence": self.evidence}


@stage("register")
def register_version(
    run: StageRun,
    name: str,
    recipe: str,
    files: dict[Target, ModelArtifact],
    evidence: EvidenceArtifact,
    data: DataArtifact,
    models: dict[str, ModelArtifact],
    config: RegisterConfig,
) -> VersionArtifact:
    """Make a version of the registered model `name`, unless one with this content is there and whole.

    What MLflow asks by default is the ONNX file in ONNX Runtime, or the first target's file where there is none. Beside
    it lie the other targets' files, the labels, the profile, a sample of examples with their answers, the recipe
    (`recipe` is its YAML), the evidence, the model card and a manifest of all of these. `models` are the Keras models
    of this compression by name. The alias is not set here: a version that is reused has to get it too.
    """
    # where MLflow compares two versions it compares these runs: setting by setting, not one text with another
    tracking.log_parameters(run.run_id, tracking.flatten(yaml.safe_load(recipe), "recipe."))
    content = content_digest(files, recipe, data, _kept(data, "columns"), _kept(data, "encoding"))
    made = _registered(name, content) or _register(
        run, Version(name, recipe, files, evidence, data, models, config), content
    )
    return VersionArtifact(
        stage=run.stage,
        sha256=digest_folder(tracking.download(made.uri)),  # as it is kept: MLflow adds a note to what it registers
        uri=made.uri,
        run=run.run_id,
        name=name,
        version=made.version,
        content=content,
    )


def _registered(name: str, content: str) -> registry.Registered | None:
    """The newest version with this content whose files are all as they were registered; nothing if there is none."""
    for there in registry.versions_with(name, content):
        try:
            why = open_whole(there).unsealed()
        except (VersionDamaged, StoreError) as error:
            why = str(error)
        if not why:
            return there
        listener().note("register", f"{there.uri} has this content, but a new version is made: {why}")
    return None


def _register(run: StageRun, made: Version, content: str) -> registry.Registered:
    """Lay the version out in a folder and register it."""
    folder = run.work / "version"
    evidence = tracking.fetch(made.evidence)
    measured = open_evidence(evidence)
    target = default_target(made.files)
    figures = headline(measured)
    examples, _ = open_prepared(made.data).sample("test", SAMPLE)
    profile = _profile(made)
    source = tracking.fetch(made.files[target]) / FORMATS[target].FILE
    taken = open_file(source, profile).inputs
    examples = packed(by_name(examples, [end.name for end in taken], [end.dtype for end in taken]))
    tracking.save_model(
        folder,
        source,
        place_of(target) / FORMATS[target].FILE,
        examples[:2],
        requirements=[f"{library}=={version(library)}" for library in FORMATS[target].REQUIREMENTS],
        profile=profile,
    )
    if (folder / "code").is_dir():  # a file where Python would put bytecode beside what MLflow imports from a version
        (folder / "code" / "__pycache__").write_text("A file, so that Python writes nothing into this version.\n")
    for target, file in made.files.items():  # byte for byte what was measured: MLflow writes ONNX anew
        shutil.copytree(tracking.fetch(file), folder / place_of(target), dirs_exist_ok=True)
    shutil.copytree(evidence, folder / "evidence")
    write_profile(profile, folder)
    sample: dict[str, Any] = {"examples": examples, **_answers(made.files, examples)}
    np.savez_compressed(folder / SAMPLE_FILE, **sample)
    write_labels({head.name: head.classes for head in made.data.heads}, folder)
    (folder / "recipe.yaml").write_text(made.recipe)
    written: dict[str, Any] = {
        "name": made.name,
        "description": made.config.description,
        "evidence": measured,
        "data": made.data,
        "types": {name: each.dtype.name for name, each in fields(examples).items()},
        "lineage": {step: artifact.sha256 for step, artifact in made.lineage.items()},
        "links": {
            **{step: pages.ui_url(artifact.run) for step, artifact in made.lineage.items()},
            "evidence": pages.ui_url(made.evidence.run, f"evidence/{PAGE}"),
            **({"search": pages.ui_url(measured.searched.run)} if measured.searched else {}),
        },
    }
    (folder / "README.md").write_text(render_card(**written))
    card = render_card(**written, brief=True)
    tags = {
        "slimline.content": content,
        "slimline.recipe": digest_text(made.recipe),
        "slimline.data": made.data.digest,
        "slimline.evidence": made.evidence.sha256,
        "slimline.git": git_commit(),
        tracking.FLOW_RUN: str(flow_run.id or ""),
        "target": ",".join(made.files),
        **{f"slimline.parent.{step}": artifact.sha256 for step, artifact in made.lineage.items()},
        "precision": measured.served().precision,
        **({"slimline.search": measured.searched.run} if measured.searched else {}),
        # what people filter versions by
        **{name: f"{value:.6g}" for name, value in figures.items() if "/" not in name},
    }
    tags[MANIFEST_TAG] = write_manifest(folder, name=made.name, content=content)
    if signs():
        sign(folder, folder / SIGNATURE)
    return registry.register(run.run_id, made.name, folder, tags, figures, card, made.config.description)


def _kept(data: DataArtifact, of_table: str) -> list[Any]:
    """What the data's profile has of a table: the inputs' names, or what its columns became; nothing of other data."""
    kept = json.loads((tracking.fetch(data) / PROFILE).read_text())
    return list(kept.get(of_table, ()))


def _profile(made: Version) -> dict[str, Any]:
    """What new data are compared with: the data's profile, and what the default file answered to the test split."""
    profile: dict[str, Any] = json.loads((tracking.fetch(made.data) / PROFILE).read_text())
    predictions = open_predictions(tracking.fetch(made.evidence)).model_dump()
    return profile | {name: value for name, value in predictions.items() if value}


def _answers(files: dict[Target, ModelArtifact], examples: Outputs) -> dict[str, Outputs]:
    """What each file that can be run here answers to the examples, by target: servers' answers are compared with it."""
    return {
        target: FORMATS[target].load(tracking.fetch(file), threads=1)(examples)
        for target, file in files.items()
        if FORMATS[target].RUNS_HERE
    }
