"""From rows to numbers: what turns a table's categories, texts and dates into what the model takes, beside it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.bundles.contents import Contents
from tasks.data.tables import slimline_columns
from tasks.drift.profile import FILE as PROFILE

COLUMNS = "columns.json"
WORDS = 3  # of the example of a text


def write_encoding(folder: Path, contents: Contents) -> dict[str, Any]:
    """Put into a bundle what its columns become, and the program that does so; gives an example row for its page.

    Nothing for data whose values are the model's own.
    """
    encoding = json.loads((contents.version.folder / PROFILE).read_text()).get("encoding", ())
    if not encoding:
        return {}
    (folder / COLUMNS).write_text(json.dumps(encoding, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    program = Path(slimline_columns.__file__)
    shutil.copyfile(program, folder / program.name)
    return {column["name"]: _example(column) for column in encoding}


def _example(column: Mapping[str, Any]) -> Any:
    """A value such as a column has."""
    kind = column.get("kind", "number")
    if kind == "words":
        return " ".join(column.get("categories", ())[:WORDS])
    return {"number": 1.5, "date": "2026-01-31"}.get(kind) or next(iter(column.get("categories", ())), "")
