"""JSON schemas as Pydantic makes them, as rows of a table: the one truth about a field is where the code has it."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false", "null": "none"}


class Field(NamedTuple):
    """A field: its name, schema and default; `default` is `...` where it has to be given."""

    name: str
    schema: Schema
    default: Any


def resolved(schema: Schema, whole: Schema) -> Schema:
    """A schema, with what it refers to in its place; what stands beside the reference wins."""
    if "$ref" not in schema:
        return schema
    target = whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def fields(model: Schema, default: Any = ...) -> Iterator[Field]:
    """The fields of an object, in the order of a form if they have a place there; `default` is that of the object."""
    given = default if isinstance(default, dict) else {}
    places = model["properties"].items()
    for name, schema in sorted(places, key=lambda item: item[1].get("position", 0)):
        missing = ... if name in model.get("required", ()) else None
        yield Field(name, schema, given.get(name, schema.get("default", missing)))


def kind(schema: Schema, whole: Schema) -> str:
    """A type as people say it, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(kind(each, whole) for each in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"always `{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'], whole)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {kind(schema['additionalProperties'], whole)}"
    bounds = [f"{sign} {schema[key]:,}" for key, sign in BOUNDS.items() if key in schema]
    return ", ".join([NAMES[schema["type"]], *bounds])


def said(value: Any) -> str:
    """A default as a recipe would have it."""
    if value is ...:
        return "**has to be given**"
    if value in (None, "", [], {}):
        return "empty"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    names = list(header)
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
