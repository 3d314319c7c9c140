"""A version as the registry has it: the one way in which its folder is opened."""

from pathlib import Path

from tasks.contract.errors import VersionError
from tasks.store import registry, tracking
from tasks.versions.address import parse
from tasks.versions.version import OpenVersion, open_version

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

    From a store that is elsewhere it is copied beneath `into`, or to where it stays until the process ends.

    Raises:
        VersionError: there is none, or Slimline did not register it.
        VersionDamaged: files are damaged, missing or more.
        StoreError: the store has none of its files.

    """
    version = version_at(uri)
    return open_version(version.uri, tracking.download(version.uri, into), version.tags.get(MANIFEST_TAG, ""))
