"""Registered versions, looked at: what the registry and their evidence say of them. It takes no flow run."""

import difflib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field

from flows.recipe import Recipe
from flows.report import Figures, figures_of
from tasks.contract.artifact import digest_folder
from tasks.contract.errors import StoreError, VersionError
from tasks.evidence.evidence import Evidence, FileEvidence, open_evidence
from tasks.evidence.page import PAGE
from tasks.measuring.machine import comparable
from tasks.register import digest_text
from tasks.store import pages, registry, tracking
from tasks.store.registry import Registered
from tasks.versions.address import parse
from tasks.versions.registered import ELSEWHERE
from tasks.versions.version import OpenVersion


class FileFigures(Figures, frozen=True):
    """The headline figures of one file, with their intervals and its digest."""

    sha256: str
    score_low: float
    score_high: float
    speedup_low: float | None = Field(description="None where the target's runtime is not here.")
    speedup_high: float | None

    @classmethod
    def of(cls, evidence: Evidence, file: FileEvidence) -> Self:
        """A file's."""
        return cls(
            **figures_of(evidence, file).model_dump(),
            sha256=file.sha256,
            score_low=file.accuracy.low,
            score_high=file.accuracy.high,
            speedup_low=file.speedup.low if file.ran else None,
            speedup_high=file.speedup.high if file.ran else None,
        )


class Listed(BaseModel, frozen=True):
    """A version in brief, as `slimline list --json` prints it."""

    uri: str
    name: str
    version: int
    aliases: tuple[str, ...]
    registered_at: datetime
    score: str = Field("", description="The metric that decides, by its name: accuracy, r2, or another.")
    figures: tuple[FileFigures, ...] = Field((), description="As in the evidence: every file that was measured.")
    default: FileFigures | None = Field(None, description="Those of the file that MLflow asks by default.")
    problem: str = Field("", description="Why there are no figures; empty if there are.")


class Shown(Listed, frozen=True):
    """A version in full, as `slimline show --json` prints it."""

    evidence: str = Field(description="Its page: a path on this disk, or an address in the store.")
    recipe: str = Field(description="Where the recipe is.")
    settings: dict[str, str] = Field(description="What the recipe sets otherwise than Slimline would.")
    parents: dict[str, str] = Field(description="The digest of what each step handed on, by step.")
    promoted: dict[str, str] = Field(description="When it became the champion, and by which flow run; empty if never.")
    approved_by: str = Field("", description="Who approved that, as they call themselves; empty if nobody was asked.")
    deployed: dict[str, str] = Field(description="By server, when and how it was tried.")
    mlflow_url: str


class SettingDifference(BaseModel, frozen=True):
    """A setting that two recipes differ in."""

    setting: str
    values: tuple[str | None, str | None] = Field(description="None where a recipe has no such setting.")


class SideBySide(BaseModel, frozen=True):
    """Two versions, as `slimline compare --json` prints them."""

    versions: tuple[Shown, Shown]
    notes: tuple[str, ...] = Field(description="What can be compared of the figures, and what cannot.")
    recipe: tuple[SettingDifference, ...] = Field(description="In the recipe's order.")


def list_versions(name: str = "") -> list[Listed]:
    """Every version of a registered model, or of all: by name, the newest first.

    Raises:
        VersionError: there is no registered model of this name.

    """
    versions = registry.versions_of(name) if _is_there() else []
    if name and not versions:
        raise VersionError("name", name, f"there is no such registered model. {_known(name)}")
    return [_listed(version)[0] for version in versions]


def show_version(uri: str) -> Shown:
    """One version, by alias or number.

    Raises:
        VersionError: it is no address, or leads to no version.

    """
    return _shown(_registered(uri))[0]


def compare_versions(one: str, other: str) -> SideBySide:
    """Two versions: each one's own figures, and the settings that their recipes differ in.

    Raises:
        VersionError: one is no address or leads to no version, or both lead to the same.
        StoreError: a version's evidence or recipe cannot be read.

    """
    registered = _registered(one), _registered(other)
    if registered[0].uri == registered[1].uri:
        raise VersionError(
            "version",
            other,
            f"leads to {registered[0].name} version {registered[0].version}, as {one} does: name another one. "
            f"`slimline list {registered[0].name}` has all",
        )
    (a, first), (b, second) = map(_shown, registered)
    for version in (a, b):
        if version.problem:
            raise StoreError(f"{version.uri}: {version.problem}")
    assert first is not None
    assert second is not None
    return SideBySide(
        versions=(a, b),
        notes=tuple(_notes(a, first, b, second)),
        recipe=tuple(differences(_recipe(registered[0]), _recipe(registered[1]))),
    )


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[SettingDifference]:
    """The settings that two recipes differ in, in dotted form, values as they are written."""
    flat, others = _flat(one), _flat(other)
    return [
        SettingDifference(setting=name, values=(flat.get(name), others.get(name)))
        for name in {**flat, **others}
        if flat.get(name) != others.get(name)
    ]


def _is_there() -> bool:
    """Whether a store is there to be looked into: none is made for it."""
    return not tracking.is_local() or Path(tracking.tracking_uri().removeprefix("sqlite:///")).is_file()


def _registered(uri: str) -> Registered:
    address = parse(uri)
    there = _is_there()
    version = registry.version_of(*address) if there else None
    if version is not None:
        return version
    pointing = registry.aliases_of(address.name) if there else {}
    aliases = ", ".join(f"{alias} is {number}" for alias, number in pointing.items())
    known = f"Aliases of {address.name}: {aliases}" if aliases else _known(address.name)
    raise VersionError("version", uri, f"there is no such version. {known}")


def _known(name: str) -> str:
    """Which registered models there are, and where; the nearest name first."""
    store = registry.place()
    names = sorted({version.name for version in registry.versions_of()}) if _is_there() else []
    if not names:
        return f"Nothing is registered in {store}: {ELSEWHERE}"
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]}? " if close and close[0] != name else ""
    return f"{hint}Registered in {store}: {', '.join(names)}"


def _listed(version: Registered) -> tuple[Listed, Evidence | None]:
    brief = {
        "uri": version.uri,
        "name": version.name,
        "version": version.version,
        "aliases": version.aliases,
        "registered_at": version.registered_at,
    }
    try:
        opened = _opened(version)
    except StoreError as error:
        return Listed(**brief, problem=str(error)), None
    evidence = opened.evidence
    figures = tuple(FileFigures.of(evidence, file) for file in evidence.files)
    default = FileFigures.of(evidence, opened.default())
    return Listed(**brief, score=evidence.score, figures=figures, default=default), evidence


def _opened(version: Registered) -> OpenVersion:
    """A version with its evidence, which has to be the one that was registered."""
    if "slimline.evidence" not in version.tags:
        raise StoreError("has no evidence: Slimline did not register it")
    folder = tracking.download(f"{version.uri}/evidence")
    actual, recorded = digest_folder(folder), version.tags["slimline.evidence"]
    if actual != recorded:
        raise StoreError(
            f"its evidence is not what was registered: sha256 {actual[:12]}, recorded {recorded[:12]}. "
            f"`slimline verify {version.uri}` says what else is"
        )
    return OpenVersion(version.uri, folder.parent, open_evidence(folder))


def _shown(version: Registered) -> tuple[Shown, Evidence | None]:
    listed, evidence = _listed(version)
    try:
        made = _recipe(version)
        usual = {**Recipe(name="any").model_dump(mode="json"), "name": made.get("name")}
        settings = {each.setting: each.values[1] or "" for each in differences(usual, made) if each.values[1]}
    except StoreError as error:
        listed, settings = listed.model_copy(update={"problem": listed.problem or str(error)}), {}
    shown = Shown(
        **dict(listed),
        evidence=_place(version, f"evidence/{PAGE}"),
        recipe=_place(version, "recipe.yaml"),
        settings=settings,
        parents=_tagged(version, "slimline.parent."),
        promoted=_tagged(version, "promoted_"),
        approved_by=version.tags.get("approved_by", ""),
        deployed=_tagged(version, "deployed."),
        mlflow_url=pages.version_url(version.name, version.version),
    )
    return shown, evidence


def _recipe(version: Registered) -> dict[str, Any]:
    """The settings that a version was made by, as they stand there: also of a Slimline whose recipes were others.

    Raises:
        StoreError: there are none.

    """
    file = tracking.download(f"{version.uri}/recipe.yaml")
    try:
        text = file.read_text(encoding="utf-8")
        if digest_text(text) != version.tags.get("slimline.recipe", digest_text(text)):
            raise StoreError(
                f"its recipe is not what was registered. `slimline verify {version.uri}` says what else is"
            )
        settings = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StoreError(f"its recipe cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise StoreError("its recipe holds no settings")
    return settings


def _place(version: Registered, file: str) -> str:
    """Where a version's file is: on this disk if the store is, else its address."""
    address = f"{version.uri}/{file}"
    if not tracking.is_local():
        return address
    try:
        return str(tracking.download(address))
    except StoreError:
        return ""


def _tagged(version: Registered, prefix: str) -> dict[str, str]:
    """What the tags with a prefix say, by the rest of their names."""
    tags = sorted(version.tags.items())
    return {name.removeprefix(prefix): value for name, value in tags if name.startswith(prefix) and value}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings in dotted form, with values as a person types them."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
            flat[f"{prefix}{name}"] = text.removesuffix("...\n").strip()
    return flat


def _notes(a: Shown, first: Evidence, b: Shown, second: Evidence) -> list[str]:
    """What can be compared of two versions' own figures, and what cannot."""
    notes = []
    if first.data == second.data and first.examples == second.examples:
        notes.append(f"Both were measured on the same {first.examples:,} test examples, each when it was made.")
    else:
        notes.append("They were measured on other data: a difference of their scores says little.")
    if comparable(first.machine, second.machine):
        notes.append(f"Both were timed on {first.machine.name}, not side by side: small differences are noise.")
    else:
        notes.append(
            f"They were timed on other processors, {first.machine.name} and {second.machine.name}: their times "
            "cannot be compared."
        )
    if a.parents.get("teacher") != b.parents.get("teacher"):
        notes.append("Their teachers are not the same: each drop and speed-up is against its own.")
    same = _digests(a).items() & _digests(b).items()
    notes += [f"Their {target} files are the same, byte for byte." for target in sorted(target for target, _ in same)]
    notes.append(f"`slimline promote {a.name}` measures a candidate and the champion side by side.")
    return notes


def _digests(version: Listed) -> dict[str, str]:
    return {file.target: file.sha256 for file in version.figures if file.shipped}
