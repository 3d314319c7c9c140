"""MLflow's model registry: the versions of registered models, their tags, and the aliases that say which one serves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from tasks import tracking

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"


class Registered(BaseModel, frozen=True):
    """A version of a registered model, as the registry has it now."""

    name: str
    version: int
    run: str = Field(description="The MLflow run of the register stage that made it.")
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """Its address by number, which always leads to the same bytes."""
        return f"models:/{self.name}/{self.version}"


def version_of(name: str, which: str | int) -> Registered | None:
    """The version with a number or an alias; nothing if there is none."""
    found: Any = None
    with tracking.unless(NOT_THERE, "INVALID_PARAMETER_VALUE"):  # the second where an alias is not set
        if isinstance(which, str) and not which.isdecimal():
            which = tracking.client().get_model_version_by_alias(name, which).version
        # by number: what is found by alias or by search comes without all aliases
        found = tracking.client().get_model_version(name, str(which))
    return _registered(found) if found else None


def find_version(name: str, content: str) -> Registered | None:
    """The version of a registered model that has this content; nothing if there is none."""
    found = tracking.client().search_model_versions(
        f"name = '{name}' and tags.`slimline.content` = '{content}'", max_results=1
    )
    return _registered(found[0]) if found else None


def aliases_of(name: str) -> dict[str, int]:
    """Where every alias of a registered model points; empty if there is no such model."""
    aliases: Mapping[str, str] = {}
    with tracking.unless(NOT_THERE):
        aliases = tracking.client().get_registered_model(name).aliases
    return {alias: int(version) for alias, version in aliases.items()}


def set_alias(name: str, alias: str, version: int | None) -> None:
    """Point an alias at a version, or take it away."""
    if version is None:
        tracking.client().delete_registered_model_alias(name, alias)
    else:
        tracking.client().set_registered_model_alias(name, alias, str(version))


def tag_version(name: str, version: int, tags: Mapping[str, str]) -> None:
    """Tags of a version; one that is there is replaced."""
    for key, value in tags.items():
        tracking.client().set_model_version_tag(name, str(version), key, value)


def register(
    run_id: str, name: str, folder: Path, tags: Mapping[str, str], card: str, alias: str, description: str
) -> Registered:
    """Make a version of a registered model from a folder that MLflow can load."""
    with tracking.unless("RESOURCE_ALREADY_EXISTS"):
        tracking.client().create_registered_model(name, description=description or f"{name}, compressed by Slimline.")
    model = tracking.keep_model(run_id, name, folder, {"slimline.content": tags["slimline.content"]})
    made = tracking.client().create_model_version(
        name, model, run_id=run_id, tags=dict(tags), description=card, model_id=model.removeprefix("models:/")
    )
    set_alias(name, alias, int(made.version))
    return _registered(made)


def _registered(version: Any) -> Registered:
    return Registered(
        name=version.name,
        version=int(version.version),
        run=version.run_id or "",
        tags=dict(version.tags),
        aliases=tuple(version.aliases),
    )
