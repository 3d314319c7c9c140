"""A manifest: what a folder is, and the sha256 of every file in it."""

import json
from pathlib import Path
from typing import Any

from tasks.contract.artifact import digest_file
from tasks.contract.errors import BundleDamaged

MANIFEST = "manifest.json"


def write_manifest(folder: Path, **about: Any) -> None:
    """Put `manifest.json` into a folder: what it is, and the sha256 of every other file in it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: digest_file(folder / name) for name in names}
    text = json.dumps({**about, "files": files}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """A folder's manifest, when every file in the folder is the one that it names, and none is missing or more.

    Raises:
        BundleDamaged: otherwise; names the first such file.

    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        named: dict[str, str] = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleDamaged(f"{folder}: its {MANIFEST} cannot be read ({error}): deploy the version again") from error
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name in sorted(there | set(named)):
        actual = digest_file(folder / name) if name in there else "nothing"
        if actual != named.get(name):
            raise BundleDamaged(
                f"{folder}: {name} is not the file that was put there: sha256 {actual[:12]}, in the manifest "
                f"{named.get(name, 'nothing')[:12]}. A copy was cut off, or it was changed: deploy the version again"
            )
    return manifest
