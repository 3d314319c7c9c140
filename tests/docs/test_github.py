"""What the hosting site reads: its own schemas' word on it, and the Pythons that the package is for."""

import re
import subprocess
import sys

import pytest
import yaml
from pages import ROOT

GITHUB = ROOT / ".github"
FORMS = [file for file in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if file.name != "config.yml"]


def held(schema: str, *files: object) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        f"vendor.github-{schema}",
        *map(str, files),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("workflows", [GITHUB / "workflows" / "ci.yml"]),
        ("issue-forms", FORMS),
        ("issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
)
def test_it_is_what_the_schemas_allow(schema, files):
    held(schema, *files)


def test_every_python_that_the_package_is_for_runs_what_ci_runs():
    job = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]["run"]
    lowest, above = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    ).groups()
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(lowest), int(above))]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
