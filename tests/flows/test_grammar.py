"""What may be typed, what help says of it, and what is refused before anything is imported."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from flows import commands, grammar
from flows.grammar import chosen
from tasks.serving.__main__ import add_options

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("run", "check", "promote", "rollback", "monitor", "deploy", "verify", "serve", "schema", "up", "down", "status")
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
    ("typed", "message"),
    [
        ("", "Missing command"),
        ("nosuch", "No such command 'nosuch'"),
        ("run", "Missing argument 'RECIPE'"),
        ("run a.yaml --nosuch", "No such option: --nosuch"),
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


def test_servers_answer_ctrl_c_themselves():
    for word in ("up", "down", "status"):
        command = chosen([word])
        assert command.own_signals
        assert (command.work.func, command.work.args) == (commands.servers, (word,))
    assert not chosen(["check", "a.yaml"]).own_signals


def test_serve_listens_where_a_bundles_own_server_does():
    own = argparse.ArgumentParser()
    add_options(own)
    version, watch, settings = chosen(["serve", "models:/a/1"]).work.args
    assert (version, watch) == ("models:/a/1", 10)
    assert settings == vars(own.parse_args([]))


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
