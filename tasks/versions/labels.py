"""The names of classes that go with a version, in label order: those of its one output, or of each by its name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.contract.named import ONE

LABELS = "labels.json"


def write_labels(labels: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Put `labels.json` into a folder."""
    (folder / LABELS).write_text(json.dumps(as_json(labels), indent=1, ensure_ascii=False), encoding="utf-8")


def as_json(labels: Mapping[str, Sequence[str]]) -> list[str] | dict[str, list[str]]:
    """Class names as files have them: a list of the one output's, an object of lists where outputs have names."""
    named = {name: list(classes) for name, classes in labels.items()}
    return named.get(ONE, named)


def read_labels(folder: Path) -> dict[str, list[str]]:
    """Class names by output, the only one without a name; empty for one that tells no classes apart."""
    content = json.loads((folder / LABELS).read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {ONE: content}
