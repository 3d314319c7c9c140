"""The documentation's pages, and the code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language, the file that it is to be, if any, and what is in it."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def commands(page: Path, program: str) -> list[list[str]]:
    """What a page has a person type to start a program, as words without the program's name and remarks."""
    lines = "\n".join(block.text for block in blocks(page) if block.language == "bash").splitlines()
    return [line.split("#")[0].split()[1:] for line in lines if line.startswith(f"{program} ")]
