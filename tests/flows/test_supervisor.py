"""What `slimline up` has its supervisor start, as its settings have it."""

import configparser
import shlex

import pytest

from flows.shipped import DEPLOYMENTS


def programs() -> dict[str, str]:
    settings = configparser.RawConfigParser(comment_prefixes=(";",))
    settings.read(DEPLOYMENTS / "supervisord.conf")
    sections = [name for name in settings.sections() if name.startswith("program:")]
    return {name.removeprefix("program:"): settings[name]["command"] for name in sections}


@pytest.mark.parametrize("program", programs())
def test_a_shell_is_not_left_before_the_end_of_its_line(program):
    """`exec` on one line and its options on the next starts a server without them, on a store of nobody's."""
    shell, *words = shlex.split(programs()[program])
    if shell == "/bin/sh":
        assert "\n" not in words[1]


def test_mlflow_serves_the_store_of_the_state_folder():
    words = shlex.split(shlex.split(programs()["mlflow"])[2])
    assert words[words.index("--backend-store-uri") + 1] == "sqlite:///%(ENV_SLIMLINE_HOME)s/mlflow.db"
    assert words[words.index("--default-artifact-root") + 1] == "file://%(ENV_SLIMLINE_HOME)s/artifacts"
