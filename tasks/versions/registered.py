"""A version as the registry has it: the one way in which its folder is opened, and signed."""

import tempfile
from dataclasses import replace
from pathlib import Path

from tasks.contract.errors import VersionError
from tasks.store import registry, tracking
from tasks.versions import signature
from tasks.versions.address import parse
from tasks.versions.version import SIGNATURE, OpenVersion, open_version

ELSEWHERE = (
    "register one with `slimline run`, or look in another store: work in its folder, or name it in SLIMLINE_HOME or "
    "MLFLOW_TRACKING_URI"
)
MANIFEST_TAG = "slimline.manifest"  # of a version: the sha256 of its manifest, which has that of every file


def version_at(uri: str) -> registry.Registered:
    """The version that an address leads to.

    Raises:
        VersionError: there is none.

    """
    version = registry.version_of(*parse(uri))
    if version is None:
        raise VersionError("version", uri, f"there is no such version in {registry.place()}: {ELSEWHERE}")
    return version


def open_registered(uri: str, into: Path | None = None) -> OpenVersion:
    """Download the version that an address leads to, and open it if every file is as it was registered.

    From a store that is elsewhere it is copied beneath `into`, or to where it stays until the process ends. If a public
    key is set, its signature has to be by that key.

    Raises:
        VersionError: there is none, or Slimline did not register it.
        VersionDamaged: files are damaged, missing or more.
        VersionUnsigned: it has no signature by the key that is set.
        StoreError: the store has none of its files.

    """
    opened = open_whole(version_at(uri), into)
    return replace(opened, signed_by=signature.signed_by(opened.uri, opened.folder))


def open_whole(version: registry.Registered, into: Path | None = None) -> OpenVersion:
    """The same, whoever signed it."""
    return open_version(version.uri, tracking.download(version.uri, into), version.tags.get(MANIFEST_TAG, ""))


def sign_version(uri: str) -> registry.Registered:
    """Sign the version that an address leads to, if it is whole; what signature it had goes.

    Raises:
        OptionWrong: there is no key to sign with.

    And as `open_registered`, but for VersionUnsigned.
    """
    version = version_at(uri)
    with tempfile.TemporaryDirectory(prefix="slimline-") as place:
        signature.sign(open_whole(version, Path(place)).folder, Path(place, SIGNATURE))
        registry.add_file(version, Path(place, SIGNATURE))
    return version


def sign_where_asked(uri: str) -> None:
    """Sign a version that has no signature yet, if versions that are made here are to have one."""
    if signature.signs() and SIGNATURE not in (file.path for file in tracking.files_at(uri).list_artifacts(None)):
        sign_version(uri)
