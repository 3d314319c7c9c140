"""What flow runs are called: the model, and what was set, so that a list of them tells them apart."""

from collections.abc import Iterator, Mapping
from typing import Any

from prefect.runtime import flow_run

from flows.form import choices
from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from flows.shipped import RECIPES

LONGEST = 100  # characters: what Prefect shows of it in a line


def form() -> str:
    """Of a run by the form of what decides."""
    parameters = dict(flow_run.parameters)
    recipe, settings = parameters.pop("recipe"), parameters.pop("settings")
    return named(recipe, [*in_words(choices(parameters)), *settings])


def recipe() -> str:
    """Of a run by a whole recipe: what is other than in the shipped one of its name, or than where nothing is set."""
    recipe: Recipe = flow_run.parameters["recipe"]
    shipped = RECIPES.get(recipe.name)
    usual = read_recipe(shipped) if shipped else Recipe(name=recipe.name)
    return named(recipe.name, in_words(dict(changes(usual.model_dump(), recipe.model_dump()))))


def changes(usual: Mapping[str, Any], settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that are not as usual, by their place."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from changes(usual.get(name, {}), value, f"{prefix}{name}.")
        elif name not in usual or value != usual[name]:
            yield f"{prefix}{name}", value


def in_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are typed."""
    return [
        f"{place}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for place, value in settings.items()
    ]


def named(what: str, settings: list[str]) -> str:
    """A name of a model and what was set, shortened."""
    text = f"{what}: {', '.join(settings)}" if settings else what
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
