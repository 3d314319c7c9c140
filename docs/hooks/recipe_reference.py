"""The page of every setting: made of the schema that `slimline schema` prints, each time the site is built."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from schema import Schema, fields, kind, resolved, said, table

ROOT = Path(__file__).parents[2]
HEADER = ("setting", "what it is", "default", "what it does")


def rows(model: Schema, whole: Schema, path: str, default: Any = ...) -> Iterator[tuple[str, str, str, str]]:
    """A row for each setting below a model, by its dotted name."""
    for field in fields(model, default):
        inner, name = resolved(field.schema, whole), f"{path}.{field.name}".strip(".")
        if "properties" in inner:
            yield from rows(inner, whole, name, {} if field.default is ... else field.default)
        else:
            yield f"`{name}`", kind(field.schema, whole), said(field.default), field.schema.get("description", "")


def section(title: str, model: Schema, whole: Schema, path: str, default: Any = ...) -> str:
    """A heading, what the settings are for, and their table."""
    what = (model.get("description") or "").strip()
    return f"\n## {title}\n\n{what}\n\n{table(HEADER, rows(model, whole, path, default))}"


def listed(whole: Schema) -> list[str]:
    """The models that lists are of, which have a section of their own to be linked to."""
    models = [whole, *whole["$defs"].values()]
    every = [field for model in models for field in model.get("properties", {}).values()]
    return sorted({field["items"]["$ref"].rsplit("/", 1)[-1] for field in every if "$ref" in field.get("items", {})})


def recipe_page() -> str:
    """Every setting of a recipe."""
    from flows.recipe import Recipe

    whole = Recipe.model_json_schema()
    plain, parts = [], []
    for field in fields(whole):
        model = resolved(field.schema, whole)
        if "properties" in model:
            parts.append(section(field.name, model, whole, field.name, field.default))
        else:
            plain.append((f"`{field.name}`", kind(field.schema, whole), said(field.default), model["description"]))
    parts += [section(name, whole["$defs"][name], whole, "") for name in listed(whole)]
    return (
        "# Every setting of a recipe\n\nMade from the schema that `slimline schema` prints. "
        "On the command line a setting has its dotted name: `slimline run recipe.yaml student.width=0.5`. "
        "An unknown name or a value out of bounds is refused with exit code 2.\n\n"
        f"## The recipe itself\n\n{table(HEADER, plain)}{''.join(parts)}"
    )


def operation_page() -> str:
    """Every setting of `slimline monitor` and `slimline deploy`."""
    from tasks.bundles.client import TrialConfig
    from tasks.bundles.contents import BundleConfig
    from tasks.data.new import NewDataConfig
    from tasks.drift.limits import MonitorConfig

    models = {
        "data": ("slimline monitor: data", NewDataConfig),
        "config": ("slimline monitor: config", MonitorConfig),
        "bundle": ("slimline deploy: bundle", BundleConfig),
        "trial": ("slimline deploy: trial", TrialConfig),
    }
    parts = []
    for path, (title, model) in models.items():
        whole = model.model_json_schema()
        parts.append(section(title, whole, whole, path))
    return "# Settings of monitor and deploy\n\nGiven in dotted form behind the command." + "".join(parts)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds both pages."""
    sys.path.insert(0, str(ROOT))
    files.append(File.generated(config, "reference/recipe.md", content=recipe_page()))
    files.append(File.generated(config, "reference/operation.md", content=operation_page()))
    return files
