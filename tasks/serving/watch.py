"""The alias of a registered model, watched: where it leads is what is served."""

import asyncio
import logging
import math
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from tasks.contract.errors import StoreError
from tasks.serving.served import Served, open_version_of
from tasks.store.registry import Registered
from tasks.versions.registered import open_registered, version_at

log = logging.getLogger("slimline.serving")
LONGEST = 600  # seconds between two attempts to download a version, at most


class Follows(Protocol):
    """What a newer version is given to: a model that is served, or its shadow."""

    served: Served

    def take(self, served: Served) -> None:
        """Ask this one from the next request on."""


class Failed(NamedTuple):
    """A version that could not be served, and when it is tried again: never, if it was there and is no good."""

    version: int
    times: int
    again: float


def find(uri: str, threads: int) -> Served:
    """The version that an address leads to, opened and tried.

    Raises:
        VersionError: there is none.
        VersionDamaged: its files are not those that were registered.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    return opened(version_at(uri), threads)


def opened(version: Registered, threads: int) -> Served:
    """A registered version, opened and tried; what was downloaded for it is in memory then, and deleted.

    Raises as `find`, and StoreError if its files do not arrive.
    """
    with tempfile.TemporaryDirectory(prefix="slimline-serve-") as place:
        return open_version_of(open_registered(version.uri, Path(place)), version.name, version.version, threads)


def following(model: Follows, uri: str, threads: int, seconds: float) -> Callable[[], Awaitable[None]]:
    """Follow an alias for ever: a new version is opened and tried beside the old one, and then takes its place.

    One that cannot be served is logged and not opened again until the alias has led elsewhere; one whose files do not
    arrive is tried again after twice as long each time. The old one goes on meanwhile, and while the registry is away.
    """

    async def follow() -> None:
        failed: Failed | None = None
        logged = ""
        while True:
            await asyncio.sleep(seconds)
            version = None
            try:
                version = await asyncio.to_thread(version_at, uri)
                if failed and failed.version != version.version:
                    failed, logged = None, ""
                if str(version.version) == model.served.version or (failed and time.monotonic() < failed.again):
                    continue
                newer = await asyncio.to_thread(opened, version, threads)
            except Exception as error:  # whatever the registry or the file does, what is served goes on
                if version is not None:
                    failed = _after(error, version.version, failed, seconds)
                if str(error) != logged:
                    log.error("still serving version %s: %s", model.served.version, error)
                logged = str(error)
                continue
            failed, logged = None, ""
            log.warning("version %s takes the place of version %s", newer.version, model.served.version)
            model.take(newer)

    return follow


def _after(error: Exception, version: int, before: Failed | None, seconds: float) -> Failed:
    """What is known of a version after an attempt that failed; `seconds` are those between two looks."""
    times = before.times + 1 if before else 1
    pause = min(LONGEST, seconds * 2.0**times) if isinstance(error, StoreError) else math.inf
    return Failed(version, times, time.monotonic() + pause)
