"""What may be typed, what help says of it, and what is refused before anything is imported."""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows import commands, grammar, interrupt
from flows.amounts import hours
from flows.grammar import chosen
from tasks.contract.errors import OptionWrong
from tasks.serving.__main__ import add_options

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *(
        "run",
        "search",
        "sensitivity",
        "check",
        "list",
        "show",
        "compare",
        "promote",
        "rollback",
        "monitor",
        "deploy",
        "verify",
    ),
    *("serve", "backup", "restore", "gc", "schema", "up", "down", "status"),
]


def ended(*typed: str) -> int:
    with pytest.raises(SystemExit) as end:
        chosen(typed)
    return end.value.code


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert ended(*([command] if command else []), "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(int(columns), grammar.WIDEST)
    if not command:
        listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.startswith("  ")]
        assert [name for name in listed if name in COMMANDS] == COMMANDS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shadowed", "soon"), "--shadowed: 'soon': say it as 30m, 24h or 7d"),
        (("--shadowed", "400d"), "--shadowed: '400d': say it as 30m, 24h or 7d, up to a year"),
        (("--agreement", "101%"), "--agreement: '101%': say it as 95%, or 0.95"),
        (("--agreement", "much"), "--agreement: 'much': say it as 95%"),
    ],
)
def test_what_a_promotion_asks_for_is_checked_before_anything_starts(words, message):
    with pytest.raises(OptionWrong, match=re.escape(message)):
        chosen(["promote", "a", *words]).work()
    assert [hours("--shadowed", told) for told in ("90m", "24h", "1.5d")] == [1.5, 24, 36]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "Missing command"),
        ("nosuch", "No such command 'nosuch'"),
        ("promot digits", "No such command 'promot'. Did you mean 'promote'?"),
        ("lst", "Did you mean 'list'?"),
        ("--verison", "No such option: --verison (Possible options: --version)"),
        ("run", "Missing argument 'RECIPE'"),
        ("run a.yaml --nosuch", "No such option: --nosuch"),
        ("run a.yaml --jsno", "No such option: --jsno (Possible options: --json)"),
        ("search a.yaml one.yaml other.yaml", "one space, and settings as field=value: one.yaml other.yaml"),
        ("show", "Missing argument 'models:/NAME@ALIAS'"),
        ("compare models:/a/1", "Missing argument 'models:/NAME@ALIAS'"),
        ("promote", "Missing argument 'NAME'"),
        ("promote a b", "(b)"),
        ("promote a --approval soon", "Invalid value for '--approval'"),
        ("monitor a", "Missing argument 'field=value'"),
        ("deploy models:/a/1", "Missing option '--to'"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed, message, capsys):
    assert ended(*typed.split()) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    "typed", ["a.yaml seed=1 name=b --json", "--json a.yaml seed=1 name=b", "a.yaml seed=1 --json name=b"]
)
def test_settings_stand_before_and_after_options(typed):
    work = chosen(["run", *typed.split()]).work
    assert work.func is commands.run
    assert work.args == (Path("a.yaml"), ["seed=1", "name=b"])
    assert work.keywords == {"as_json": True}


@pytest.mark.parametrize(
    ("typed", "space", "settings"),
    [
        ("a", "default", []),
        ("a seed=1", "default", ["seed=1"]),
        ("a own.yaml seed=1 --trials 3", "own.yaml", ["seed=1"]),
    ],
)
def test_a_search_takes_a_space_and_settings(typed, space, settings):
    work = chosen(["search", *typed.split()]).work
    assert work.func is commands.search
    assert work.args == (Path("a"), Path(space), 3 if "--trials" in typed else 0, settings)


def test_the_version_is_that_of_the_package(capsys):
    assert ended("--version") == 0
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"slimline {about['version']}\n"


def test_help_names_every_exit_code_and_every_variable_of_ours(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    ended("--help")
    text = capsys.readouterr().out
    codes = dict(re.findall(r"^  (\d+) +(.+)$", text, re.MULTILINE))
    assert set(codes) == {"0", "1", "2", "3", str(interrupt.EXIT_CODE)}
    named = set(re.findall(r"^  ([A-Z_]{5,})  ", text, re.MULTILINE))
    sources = [file.read_text() for folder in ("flows", "tasks") for file in (ROOT / folder).rglob("*.py")]
    read = {name for source in sources for name in re.findall(r"environ\.get\(\s*\"((?:SLIMLINE|MLFLOW)_\w+)", source)}
    inner = {"SLIMLINE_FOLDER", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"}  # `slimline up` sets it; MLflow's own
    assert "SLIMLINE_HOME" in read
    assert read - inner <= named


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word, as its own script asks for it."""
    line = {"COMP_WORDS": " ".join(["slimline", *words]), "COMP_CWORD": str(len(words))}
    environment = {**os.environ, **line, "_SLIMLINE_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_words_are_completed():
    assert completed("pro") == ["promote"]
    assert completed("run", "digits_") == ["digits_autoencoder"]
    assert completed("promote", "digits", "--app") == ["--approval"]
    assert completed("deploy", "models:/digits@champion", "--to", "t") == ["tfserving", "triton"]


def test_servers_answer_ctrl_c_themselves():
    for word in ("up", "down", "status"):
        command = chosen([word])
        assert command.own_signals
        assert (command.work.func, command.work.args) == (commands.servers, (word,))
    assert not chosen(["check", "a.yaml"]).own_signals


def test_serve_listens_where_a_bundles_own_server_does():
    own = argparse.ArgumentParser()
    add_options(own)
    versions, watch, settings = chosen(["serve", "models:/a/1"]).work.args
    assert (versions, watch) == (["models:/a/1"], 10)
    registry = {"shadow": "", "shadow_share": "10%", "shadow_rate": 50}  # which a bundle's own has not
    assert settings == vars(own.parse_args([])) | registry


def test_help_is_cheap():
    program = (
        "import sys\n"
        "from flows import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pydantic', 'prefect', 'mlflow', 'tensorflow', 'numpy', 'rich', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
