"""Data that lie elsewhere, fetched by fsspec into a cache by content, and read from there as local files.

In `remote/` of the state folder: `content/` has each fetched file once, by its sha256; `known/` says which content an
address had when its ETag, checksum or time was what it was; `views/` has files under their own names, as links. All of
it is written beside and renamed, and never changed after; it may be removed at any time.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.contract.artifact import digest_file
from tasks.contract.errors import DataError
from tasks.contract.progress import listener
from tasks.contract.state_folder import alone, home
from tasks.data.address import HERE, without_secrets

# What servers say of a file that changes with it; names differ, as fsspec hands them on as they come.
SUMS = {
    *("etag", "md5", "md5hash", "content-md5", "digest", "crc", "crc32c", "checksum", "sha256", "blob_id", "xet_hash"),
    *("generation", "version_id", "versionid"),
}
TIMES = {"lastmodified", "last-modified", "last_modified", "modified", "mtime", "updated", "created"}
SETTLED = 2.0  # seconds after which a time in whole seconds is that of no other content
TOGETHER = 256  # files that are fetched at once
MEGABYTE = 1e6

Listed = tuple[str, str, str, int]  # a file's name below the address, its path there, its sign, its bytes (0: unknown)

_addresses: dict[str, str] = {}  # of each view that this process reads


def local(field: str, address: str) -> Path:
    """The file or folder at an address, as it is there now, on this machine.

    Raises:
        DataError: there is nothing, it cannot be fetched, a package is missing, or the disk is too small.

    """
    shown = without_secrets(address)
    inside, _, archive = address.partition("::")
    if "://" in inside and archive and not archive.startswith(HERE):  # of an archive, which is fetched whole
        address = f"{inside}::{HERE}{local(field, archive)}"
    with _failures(field, shown):
        files, listed, folder = _listed(address)
        if not listed:
            raise DataError(field, shown, "there is no such file, and nothing in such a folder; correct the address")
        if unsafe := next((each[0] for each in listed if ".." in PurePosixPath(each[0]).parts), None):
            raise DataError(field, shown, f"has a file {unsafe!r}, whose name leads out of its folder; rename it")
        cache = home() / "remote"
        with alone(cache / "lock", lambda: listener().note("prepare", "Another process fetches data; this one waits.")):
            view = _view(cache, folder, _contents(field, shown, address, files, listed, cache))
    place = view / (folder or listed[0][0])
    _addresses[str(place)] = shown
    return place


def _listed(address: str) -> tuple[Any, list[Listed], str]:
    """A file system, the files that it has at an address, and what the folder that they lie in is called.

    A folder's files are all below it, those of a pattern with `*` what fits it; a file alone lies in none.
    """
    import fsspec

    files, path = fsspec.core.url_to_fs(address, skip_instance_cache=True)  # which would have old listings
    path = files._strip_protocol(path)  # as its own listings have it
    web = "http" in files.protocol
    if "*" in path:
        root = path.split("*")[0].rpartition("/")[0]
        found = {place: info for place, info in files.glob(path, detail=True).items() if info["type"] == "file"}
    elif path.endswith("/") if web else files.isdir(path):
        root = path.rstrip("/")
        found = files.find(path, detail=True)
    else:
        name = PurePosixPath(path.split("?")[0] if web else path).name
        return files, [_as_listed(files, path, name, files.info(path))], ""
    if other := next((place for place in found if root and not place.startswith(f"{root}/")), None):
        raise ValueError(f"its listing of {root} has {other}, which is not below it")
    listed = [_as_listed(files, place, place.removeprefix(root).strip("/"), info) for place, info in found.items()]
    return files, sorted(listed), PurePosixPath(root).name or "data"


def _as_listed(files: Any, path: str, name: str, info: Mapping[str, Any]) -> Listed:
    if not _signs(info):  # listings of the web say names alone
        info = files.info(path)
    size = int(info.get("size") or 0)
    signs = _signs(info)
    return name, path, json.dumps({**signs, "size": size}, sort_keys=True) if signs else "", size


def _signs(info: Mapping[str, Any]) -> dict[str, str]:
    """What changes with a file's content; nothing where that is a time so new that the next content may have it too."""
    said = {key.lower(): value for key, value in info.items() if value}
    sums = {key: str(value) for key, value in said.items() if key in SUMS}
    times = {key: value for key, value in said.items() if key in TIMES}
    if not sums and not all(time.time() - _seconds(value) > SETTLED for value in times.values()):
        return {}
    return sums | {key: str(value) for key, value in times.items()}


def _seconds(value: Any) -> float:
    """A time as protocols write it, in seconds since 1970; infinite if it is none."""
    if isinstance(value, int | float):
        return float(value)
    try:
        moment = value if isinstance(value, datetime) else parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return math.inf
    return moment.timestamp()


def _contents(field: str, shown: str, address: str, files: Any, listed: list[Listed], cache: Path) -> dict[str, str]:
    """The sha256 of each listed file, by its name; those that are not here yet are fetched."""
    contents, missing = {}, []
    for each in listed:
        name, _, sign, _ = each
        known = cache / "known" / _known_as(address, name, sign)
        content = known.read_text() if sign and known.is_file() else ""
        if content and _content(cache, content).is_file():
            contents[name] = content
        else:
            missing.append(each)
    if missing:
        contents |= _fetched(field, shown, address, files, missing, cache)
        size = sum(_content(cache, contents[name]).stat().st_size for name, *_ in missing)
        count = f"{len(missing):,} files" if len(missing) > 1 else "1 file"
        listener().note("prepare", f"{shown}: {count}, {size / MEGABYTE:,.1f} MB, fetched into {cache}.")
    return contents


def _fetched(field: str, shown: str, address: str, files: Any, missing: list[Listed], cache: Path) -> dict[str, str]:
    """Fetch files into the cache; returns the sha256 of each by its name."""
    cache.mkdir(parents=True, exist_ok=True)
    needed, free = sum(size for *_, size in missing), shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            field,
            shown,
            f"has {needed / MEGABYTE:,.0f} MB, and {cache} has {free / MEGABYTE:,.0f} MB free: make room, or name a "
            "folder on a larger disk in SLIMLINE_HOME",
        )
    beside = cache / "fetching"
    shutil.rmtree(beside, ignore_errors=True)  # of a fetch that was killed
    contents = {}
    for start in range(0, len(missing), TOGETHER):
        taken = missing[start : start + TOGETHER]
        beside.mkdir()
        places = [beside / str(number) for number in range(len(taken))]
        files.get([path for _, path, _, _ in taken], [str(place) for place in places])
        for (name, _, sign, size), place in zip(taken, places, strict=True):
            if size and place.stat().st_size != size:
                raise DataError(field, f"{shown}: {name}", "was cut off, or has changed meanwhile; run again")
            contents[name] = digest_file(place)
            _keep(place, _content(cache, contents[name]))
            if sign:
                place.write_text(contents[name])
                _keep(place, cache / "known" / _known_as(address, name, sign))
        shutil.rmtree(beside)
    return contents


def _view(cache: Path, folder: str, contents: Mapping[str, str]) -> Path:
    """Files under their own names, in a folder that is called by what they are; made if it is not there."""
    digest = hashlib.sha256(json.dumps([folder, dict(contents)], sort_keys=True).encode()).hexdigest()
    view = cache / "views" / digest
    if not view.is_dir():
        beside = cache / "viewing"
        shutil.rmtree(beside, ignore_errors=True)
        for file, content in contents.items():
            link = beside / folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(_content(cache, content), link)
            except OSError:  # a file system without links
                shutil.copyfile(_content(cache, content), link)
        view.parent.mkdir(exist_ok=True)
        beside.rename(view)
    return view


def _content(cache: Path, sha256: str) -> Path:
    return cache / "content" / sha256[:2] / sha256


def _known_as(address: str, name: str, sign: str) -> str:
    digest = hashlib.sha256(json.dumps([address, name, sign]).encode()).hexdigest()
    return f"{digest[:2]}/{digest}"


def _keep(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    file.chmod(0o444)  # it is what its name says, for all who read it
    file.replace(place)


def _said(error: BaseException) -> str:
    """What an error says, on one line and without secrets."""
    said: str = without_secrets(" ".join(str(error).split()))
    return said


@contextmanager
def _failures(field: str, shown: str) -> Iterator[None]:
    """What protocols raise, as an error with the way out and without secrets."""
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        remedy = f"needs a package that is not here ({error}): pip install 'slimline[remote]'"
        raise DataError(field, shown, remedy) from error
    except FileNotFoundError as error:  # of the web for all that goes wrong
        why = f" ({_said(error.__cause__)})" if error.__cause__ else ""
        raise DataError(field, shown, f"nothing can be read there{why}; correct the address") from error
    except Exception as error:  # each protocol's library has errors of its own
        why = f"{type(error).__name__}: {_said(error)}"
        raise DataError(field, shown, f"cannot be fetched ({why}); check the address, credentials, network") from error


@contextmanager
def addresses_shown() -> Iterator[None]:
    """Errors name an address, and not the place in the cache that its files are read from."""
    try:
        yield
    except DataError as error:
        value, remedy = error.value, error.remedy
        for view, address in _addresses.items():
            if view in f"{value}{remedy}":
                value, remedy = str(value).replace(view, address), remedy.replace(view, address)
        raise (
            DataError(error.field, value, remedy) if remedy != error.remedy or value != error.value else error
        ) from error
