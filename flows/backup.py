"""One machine's state in one archive, and back: its databases, every artifact, and a manifest of their digests.

Databases are copied as SQLite copies them while others write, and before the artifacts: what a database names was kept
before it was named. So nothing has to be stopped.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from flows import servers
from tasks.contract.errors import OutputTaken, SlimlineError
from tasks.contract.state_folder import home
from tasks.store import database, tracking

# below the state folder: of Prefect, of searches, and the last one is what makes a folder a registry
DATABASES = ("prefect/prefect.db", "studies.db", "mlflow.db")
ARTIFACTS = "artifacts"
MANIFEST = "manifest.json"  # in the archive: the last entry, so that one that was cut off has none
FORMAT = 1


class BackupDamaged(SlimlineError):
    """An archive is not one of `slimline backup`, or not as it was written: says which entries."""


class NotOurs(SlimlineError):
    """The store is not the one in the state folder: says where it is."""


def backup(place: Path) -> int:
    """Write the archive, compressed if its name ends in .gz; gives how many files it holds.

    Raises:
        OutputTaken: there is something of this name.
        NotOurs: the registry is kept by a server elsewhere.

    """
    if place.exists():
        raise OutputTaken("backup", str(place), "is there already: name a file that is not")
    if not tracking.is_local() and not servers.keep_the_store():
        raise NotOurs(
            f"the registry is kept by {tracking.tracking_uri()}: back up its database and its artifacts there, as "
            "deployments/docker/README.md has it"
        )
    digests: dict[str, str] = {}
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.partial")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(partial, "w:gz" if place.suffix == ".gz" else "w") as archive:
                for name in DATABASES:
                    if (home() / name).is_file():
                        copied = Path(folder) / Path(name).name
                        database.copy(home() / name, copied)
                        digests[name] = _add(archive, copied, name)
                for file in sorted((home() / ARTIFACTS).rglob("*")):
                    if file.is_file():
                        name = file.relative_to(home()).as_posix()
                        digests[name] = _add(archive, file, name)
                about = {"format": FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": digests}
                content = json.dumps(about, indent=2).encode()
                entry = tarfile.TarInfo(MANIFEST)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    return len(digests)


def restore(place: Path) -> int:
    """Lay an archive out as the state folder, once every file of it is as it was; gives how many there are.

    Raises:
        OutputTaken: the state folder has a registry.
        BackupDamaged: the archive is not whole; nothing was laid out.

    """
    for name in (*DATABASES, ARTIFACTS):
        if (home() / name).exists():
            remedy = "is there already: restore to a folder that has no state, SLIMLINE_HOME=… slimline restore …"
            raise OutputTaken("SLIMLINE_HOME", str(home() / name), remedy)
    for left in home().glob("restoring-*"):
        shutil.rmtree(left)  # of one that was killed
    folder = Path(tempfile.mkdtemp(prefix="restoring-", dir=home()))
    try:
        try:
            with tarfile.open(place) as archive:
                archive.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BackupDamaged(f"{place} cannot be read as an archive of `slimline backup`: {error}") from error
        digests = _checked(folder, place)
        for name in (ARTIFACTS, *DATABASES):  # the registry's database last: until it is there, nothing is
            if (folder / name).exists():
                (home() / name).parent.mkdir(exist_ok=True)
                (folder / name).replace(home() / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    database.follow(home() / "mlflow.db", home() / ARTIFACTS)
    return len(digests)


def _checked(folder: Path, place: Path) -> dict[str, str]:
    """The digests of an archive's manifest, if its files are those.

    Raises:
        BackupDamaged: they are not.

    """
    if not (folder / MANIFEST).is_file():
        raise BackupDamaged(f"{place} has no {MANIFEST}: it is not of `slimline backup`, or its end is missing")
    about = json.loads((folder / MANIFEST).read_text())
    if about.get("format") != FORMAT:
        raise BackupDamaged(f"{place} is of format {about.get('format')}, and this Slimline reads {FORMAT}")
    recorded: dict[str, str] = about["sha256"]
    there = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    there.pop(MANIFEST)
    wrong = [f"{name}: missing" for name in sorted(recorded.keys() - there.keys())]
    wrong += [f"{name}: not of the backup" for name in sorted(there.keys() - recorded.keys())]
    for name in sorted(recorded.keys() & there.keys()):
        with there[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != recorded[name]:
                wrong.append(f"{name}: damaged")
    if wrong:
        raise BackupDamaged("\n- ".join([f"{place} is not as it was written, and nothing was restored:", *wrong]))
    return recorded


def _add(archive: tarfile.TarFile, file: Path, name: str) -> str:
    """Put a file into an archive; gives the digest of what was read, whatever is written to it meanwhile."""
    with file.open("rb") as stream:
        entry = tarfile.TarInfo(name)
        status = os.fstat(stream.fileno())
        entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o600
        reader = _Digesting(stream)
        archive.addfile(entry, reader)
    return reader.digest.hexdigest()


class _Digesting:
    """A file that digests what is read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        part = self.stream.read(size)
        self.digest.update(part)
        return part
