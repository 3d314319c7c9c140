"""The page of every command: made of what each one's own help says, each time the site is built."""

import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
WIDTH = 100  # columns of a help
COMMAND = re.compile(r"^[ │|]+([a-z][a-z-]*) {2,}[^ │|\n]", re.MULTILINE)  # as programs list their commands
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def called(*words: str) -> str:
    """What the program that `slimline` starts, in this checkout, prints when it is called with these words."""
    module, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["slimline"].split(":")
    program = f"import sys; from {module} import {function}; sys.argv[0] = 'slimline'; sys.exit({function}())"
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"slimline {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return COLOURS.sub("", done.stdout)


def page() -> str:
    """The program's help, and each command's."""
    top = called("--help")
    names = list(dict.fromkeys(COMMAND.findall(top)))
    with ThreadPoolExecutor(2) as pool:
        helps = list(pool.map(lambda name: called(name, "--help"), names))
    shown = "".join(
        f"\n## slimline {name}\n\n```text\n{text.strip()}\n```\n" for name, text in zip(names, helps, strict=True)
    )
    return (
        "# Every command\n\nMade from each command's own `--help`. Exit codes: "
        "0, done; 1, a stage failed, a limit was not kept or a check does not hold; 2, what was given is wrong; "
        f"130, ended by Ctrl-C. See [when it fails](../failures.md).\n\n```text\n{top.strip()}\n```\n{shown}"
    )


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the page."""
    files.append(File.generated(config, "reference/commands.md", content=page()))
    return files
