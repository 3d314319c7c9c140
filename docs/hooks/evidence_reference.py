"""The page of every field of `evidence.json`: made of the model that writes it, each time the site is built."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files
from schema import Schema, kind, table

ROOT = Path(__file__).parents[2]
BESIDE = yaml.safe_load((Path(__file__).parent / "evidence_fields.yaml").read_text())
NUMBERS = {"number", "integer"}
INHERITED = {"FileEvidence": "Scored"}  # whose fields it has beside its own


def measured(schema: Schema) -> bool:
    """Whether a field is a number, or an interval of one, so that it has a unit."""
    parts = [schema, *schema.get("anyOf", ()), schema.get("additionalProperties") or {}, schema.get("items") or {}]
    parts += [(part.get("items") or {}) for part in parts]
    return any(part.get("type") in NUMBERS or part.get("$ref") == "#/$defs/Interval" for part in parts)


def unit(model: str, name: str, schema: Schema) -> str:
    """A field's unit; raises KeyError where a number has none."""
    if "const" in schema or not measured(schema):
        return ""
    if not (of := beside("units", model, name)):
        raise KeyError(f"units: {model}.{name}")
    return of


def beside(what: str, model: str, name: str) -> str | None:
    """What stands beside the model of one of its fields, or of one that it inherits."""
    own = BESIDE[what].get(f"{model}.{name}")
    return own or BESIDE[what].get(f"{INHERITED.get(model, model)}.{name}")


def meaning(model: str, name: str, schema: Schema) -> str:
    """What a field means; raises KeyError where nobody says it."""
    if not (said := beside("meanings", model, name) or schema.get("description")):
        raise KeyError(f"meanings: {model}.{name}")
    return str(said)


def page() -> str:
    """A table for each model, the whole evidence first."""
    from tasks.evidence.evidence import Evidence

    whole = Evidence.model_json_schema()
    models = {"Evidence": whole, "FileEvidence": whole["$defs"]["FileEvidence"], **whole["$defs"]}
    parts = []
    for name, model in models.items():
        required = set(model.get("required", ()))
        rows = [
            (
                f"`{field}`" + ("" if field in required else " (optional)"),
                kind({k: v for k, v in schema.items() if k != "pattern"}, whole) + _pattern(schema),
                unit(name, field, schema),
                meaning(name, field, schema),
            )
            for field, schema in model["properties"].items()
        ]
        what = re.sub(r"\s+", " ", model.get("description", ""))
        parts.append(f"\n## {name}\n\n{what}\n\n{table(('field', 'type', 'unit', 'meaning'), rows)}")
    return (
        "# Every field of evidence.json\n\nMade from the Pydantic model that writes it. "
        "[The evidence's format](../evidence.md) says how to check them.\n" + "".join(parts)
    )


def _pattern(schema: Schema) -> str:
    return f", `{schema['pattern']}`" if "pattern" in schema else ""


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the page."""
    sys.path.insert(0, str(ROOT))
    files.append(File.generated(config, "reference/evidence.md", content=page()))
    return files
