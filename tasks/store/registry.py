"""MLflow's model registry: the versions of registered models, their tags, and the aliases that say which one serves."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from tasks.contract.errors import AliasesMoved
from tasks.store import tracking

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
MOVING = "slimline.moving"  # tag of a registered model: where its aliases stood before a move that is not over
MOVED_BY = "slimline.moved_by"  # and who moved them last
ID = re.compile(  # of MLflow's runs and logged models, and of Prefect's flow runs
    r"(?<![0-9a-f])(?:m-)?[0-9a-f]{32}(?![0-9a-f])|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


class Registered(BaseModel, frozen=True):
    """A version of a registered model, as the registry has it now."""

    name: str
    version: int
    run: str = Field(description="The MLflow run of the register stage that made it.")
    tags: dict[str, str]
    aliases: tuple[str, ...]
    registered_at: datetime = Field(description="When it was made, in UTC.")

    @property
    def uri(self) -> str:
        """Its address by number, which always leads to the same bytes."""
        return f"models:/{self.name}/{self.version}"


def place() -> str:
    """The store that is looked in, for messages: the one of this folder, unless another one is set. No password."""
    uri = tracking.tracking_uri()
    parts = urlsplit(uri)
    if not parts.netloc:  # a file, whose slashes Python does not put together again as they were
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def version_of(name: str, which: str | int) -> Registered | None:
    """The version with a number or an alias; nothing if there is none."""
    version: Any = None
    with tracking.unless(tracking.NOT_THERE, "INVALID_PARAMETER_VALUE"):  # the second where an alias is not set
        if isinstance(which, str) and not which.isdecimal():
            which = tracking.client().get_model_version_by_alias(name, which).version
        # by number: what an alias or a search leads to comes without all aliases
        version = tracking.client().get_model_version(name, str(which))
    return _registered(version) if version else None


def versions_with(name: str, content: str) -> list[Registered]:
    """The versions of a registered model that have this content, newest first."""
    versions = tracking.client().search_model_versions(f"name = '{name}' and tags.`slimline.content` = '{content}'")
    return sorted(map(_registered, versions), key=lambda each: -each.version)


def versions_of(name: str = "") -> list[Registered]:
    """Every version of a registered model, or of all where none is named: by name, the newest first."""
    search = partial(tracking.client().search_model_versions, f"name = '{name}'" if name else None)
    found = list(tracking.paged(search))
    pointing = {each: aliases_of(each) for each in {version.name for version in found}}  # a search knows not all
    versions = []
    for version in map(_registered, found):
        aliases = sorted(alias for alias, number in pointing[version.name].items() if number == version.version)
        versions.append(version.model_copy(update={"aliases": tuple(aliases)}))
    return sorted(versions, key=lambda version: (version.name, -version.version))


def named_ids() -> set[str]:
    """Every run, logged model and flow run that a registered model or a version names: source, tags, card, mover."""
    texts: list[str] = []
    for search in (tracking.client().search_registered_models, tracking.client().search_model_versions):
        for entry in tracking.paged(search):
            texts += [str(value) for value in (*dict(entry).values(), *entry.tags.values())]
    return {each for text in texts for each in ID.findall(text)}


def aliases_of(name: str) -> dict[str, int]:
    """Where every alias of a registered model points; empty if there is no such model."""
    aliases: Mapping[str, str] = {}
    with tracking.unless(tracking.NOT_THERE):
        aliases = tracking.client().get_registered_model(name).aliases
    return {alias: int(version) for alias, version in aliases.items()}


def set_alias(name: str, alias: str, version: int | None) -> None:
    """Point an alias at a version, or take it away."""
    if version is None:
        tracking.client().delete_registered_model_alias(name, alias)
    else:
        tracking.client().set_registered_model_alias(name, alias, str(version))


@contextmanager
def moving(
    name: str, champion: int | None, aliases: Mapping[str, int | None], by: str, told: Mapping[str, str] = {}
) -> Iterator[None]:
    """Move aliases of a registered model as one transaction, which ends well only if the block does.

    Where they stood is written into the tag `MOVING` first, which is taken away last. If the block fails they are put
    back there; if this process dies, or the store fails, before the tag is gone, `put_back` does it later. A champion
    that there was is never without a successor: at every moment it is the old one or the new one.
    What the new champion's tags tell of the move is part of it.

    It takes no lock. Looking where the champion is and moving it are two steps, so whoever calls this, or `put_back`,
    first sees to it that nobody else does both at the same time.

    Args:
        name: the registered model.
        champion: where the champion's alias was when the move was decided.
        aliases: where each is to point; none takes it away.
        by: who moves them, in words.
        told: tags of the version that becomes the champion.

    Raises:
        AliasesMoved: the champion is another one by now; nothing was changed.

    """
    now = aliases_of(name)
    if now.get(CHAMPION) != champion:
        raise AliasesMoved(
            f"{name}: the champion is no longer {_called(champion)} but {_called(now.get(CHAMPION))}, moved "
            f"meanwhile by {_tags(name).get(MOVED_BY, 'somebody')}: nothing was changed here. Start again"
        )
    before: dict[str, Any] = {"aliases": {alias: now.get(alias) for alias in aliases}, "by": by}
    newer = aliases.get(CHAMPION)
    if told and newer:
        tags = tracking.client().get_model_version(name, str(newer)).tags
        before |= {"told": {key: tags.get(key) for key in told}, "version": newer}
    tracking.client().set_registered_model_tag(name, MOVING, json.dumps(before))
    try:
        for alias, version in aliases.items():
            set_alias(name, alias, version)
        yield
    except BaseException:
        put_back(name)
        raise
    if newer:
        tag_version(name, newer, told)
    tracking.client().set_registered_model_tag(name, MOVED_BY, by)
    tracking.client().delete_registered_model_tag(name, MOVING)


def put_back(name: str) -> str:
    """Undo a move of aliases that is not over, as its block failed or its process died; gives whose it was, or "".

    It cannot tell a move that was left from one that is under way: the caller has the lock that `moving` asks for.
    """
    note = _tags(name).get(MOVING)
    if note is None:
        return ""
    before = json.loads(note)
    for alias, version in before["aliases"].items():
        set_alias(name, alias, version)
    tag_version(name, before.get("version", 0), before.get("told", {}))
    tracking.client().delete_registered_model_tag(name, MOVING)
    return str(before["by"])


def name_on(run_id: str, name: str, version: int) -> None:
    """Name a version on MLflow's page of the run that it came of: the stage that made it has a run of its own."""
    tracking.log_output(run_id, str(tracking.client().get_model_version(name, str(version)).source))


def tag_version(name: str, version: int, tags: Mapping[str, str | None]) -> None:
    """Tags of a version; one that is there is replaced, or taken away where its value is none."""
    for key, value in tags.items():
        if value is not None:
            tracking.client().set_model_version_tag(name, str(version), key, value)
        else:
            with tracking.unless(tracking.NOT_THERE):
                tracking.client().delete_model_version_tag(name, str(version), key)


def register(
    run_id: str,
    name: str,
    folder: Path,
    tags: Mapping[str, str],
    figures: Mapping[str, float],
    card: str,
    description: str,
) -> Registered:
    """Make a version of a registered model from a folder that MLflow can load, with the figures it is compared by."""
    with tracking.unless("RESOURCE_ALREADY_EXISTS"):
        tracking.client().create_registered_model(name, description=description or f"{name}, compressed by Slimline.")
    model = tracking.keep_model(run_id, name, folder, {"slimline.content": tags["slimline.content"]})
    tracking.log_metrics(run_id, figures, model=model)
    made = tracking.client().create_model_version(
        name, model, run_id=run_id, tags=dict(tags), description=card, model_id=model.removeprefix("models:/")
    )
    return _registered(made)


def add_file(version: Registered, file: Path) -> None:
    """Put a file at the top of a version's folder; one of that name goes."""
    model = str(tracking.client().get_model_version(version.name, str(version.version)).source)
    tracking.client().log_model_artifact(model.removeprefix("models:/"), str(file))


def _tags(name: str) -> dict[str, str]:
    """Tags of a registered model; none if it is not there."""
    tags: Mapping[str, str] = {}
    with tracking.unless(tracking.NOT_THERE):
        tags = tracking.client().get_registered_model(name).tags
    return dict(tags)


def _called(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _registered(version: Any) -> Registered:
    return Registered(
        name=version.name,
        version=int(version.version),
        run=version.run_id or "",
        tags=dict(version.tags),
        aliases=tuple(version.aliases),
        registered_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
    )
