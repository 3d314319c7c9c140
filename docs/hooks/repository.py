"""Pages that lie elsewhere in the repository are shown in the site where they lie, and links lead there from both."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHOWN = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/results/*.csv",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "deployments/*/README.md",
    "deployments/pictures/*.png",
    "mlflow/README.md",
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds what lies outside docs/."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:  # noqa: ARG001  MkDocs names them
    """Links as the repository has them become links of the site; what it does not show is named."""
    here = page.file.src_uri
    place = here if (ROOT / here).is_file() else f"docs/{here}"
    parts = FENCE.split(markdown)  # every other one is code
    parts[::2] = [LINK.sub(lambda link: _led(link, place, here, files), part) for part in parts[::2]]
    return "".join(parts)


def _led(link: re.Match[str], place: str, here: str, files: Files) -> str:
    """One link of a page that lies at `place` in the repository, and at `here` in the site."""
    picture, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or "://" in path:
        return link.group()
    there = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
    shown = there.removeprefix("docs/") if there.startswith("docs/") else there
    if files.get_file_from_path(shown):
        return f"{picture}[{text}]({posixpath.relpath(shown, posixpath.dirname(here) or '.')}{hash_}{anchor})"
    if (ROOT / there).exists():
        return text if text.strip("`") == there else f"{text} (`{there}`)"
    return link.group()  # a warning, which ends a strict build
