"""A manifest: what a folder is, and the sha256 of every file in it."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tasks.contract.artifact import digest_file
from tasks.contract.errors import NOTHING, BundleDamaged, FileDifference

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
UNREADABLE, UNKNOWN = "unreadable", "unknown"


def write_manifest(folder: Path, **about: Any) -> str:
    """Put `manifest.json` into a folder: what it is, and the sha256 of every other file in it. Gives its own sha256.

    The same digests are in `SHA256SUMS`, for `sha256sum -c`.
    """
    digests = {name: digest for name, digest in sorted(_digests(folder).items()) if name not in (MANIFEST, SUMS)}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), encoding="utf-8")
    files = {**digests, SUMS: digest_file(folder / SUMS)}
    text = json.dumps({**about, "files": files}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return digest_file(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """A bundle's manifest, when every file in its folder is the one that it names, and none is missing or more.

    Raises:
        BundleDamaged: otherwise; names every such file.

    """
    if found := differences(folder):
        raise BundleDamaged(str(folder), found)
    return _parsed(folder)


def differences(folder: Path, root: str | None = None, beside: Collection[str] = ()) -> list[FileDifference]:
    """Every file of a folder that is not what its manifest says, is missing or is more, in order of names.

    Args:
        folder: what is compared.
        root: the manifest's own sha256, as it was recorded elsewhere; none where nothing recorded it. If it is another
            one, the other files are still compared with what it says, for whoever mends it.
        beside: files that may be there or not.

    """
    actual = _digests(folder)
    try:
        recorded, own = dict(_parsed(folder)["files"]), actual[MANIFEST]
    except (OSError, ValueError):  # then nothing can be said of the others
        recorded, own, actual = {}, UNKNOWN, {MANIFEST: actual.get(MANIFEST, NOTHING)}
    recorded[MANIFEST] = own if root is None else root or NOTHING
    names = sorted((set(actual) | set(recorded)) - set(beside))
    pairs = [FileDifference(name, recorded.get(name, NOTHING), actual.get(name, NOTHING)) for name in names]
    return [pair for pair in pairs if pair.recorded != pair.actual]


def _parsed(folder: Path) -> dict[str, Any]:
    """A manifest; raises OSError, or ValueError where it is none."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise ValueError("it names no files")
    return dict(manifest)


def _digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file beneath a folder by its name; a link that leads to no file counts as one."""
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:
        return UNREADABLE
