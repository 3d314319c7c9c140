"""deployments/docker/compose.yaml, read as docker compose reads it: what its services run, with which environment."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "docker"
TEXT = (FOLDER / "compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+):-([^${}]*)\}")  # the one form of interpolation that the file uses, also in itself
IN_CONTAINER = "/run/secrets"


def read(**settings: str) -> dict[str, Any]:
    """The whole file, with every variable at its default but those that are set."""
    text = TEXT
    while VARIABLE.search(text):  # from the inside out
        text = VARIABLE.sub(lambda match: settings.get(match.group(1), match.group(2)), text)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def command(service: str) -> list[str]:
    """What a service runs, after its image's entrypoint."""
    return list(read()["services"][service]["command"])


def environment(service: str, secrets: Path, **changed: str) -> dict[str, str]:
    """A service's environment on this machine: secrets lie in another folder; no setting of the person's leaks in."""
    ours = ("PREFECT_", "MLFLOW_", "SLIMLINE_", "AWS_", "PG")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    declared = read()["services"][service]["environment"]
    inside = {name: value.replace(IN_CONTAINER, str(secrets)) for name, value in declared.items()}
    return {**outside, **inside, "SECRETS_FOLDER": str(secrets), "PYTHONUNBUFFERED": "1", **changed}
