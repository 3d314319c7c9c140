"""The alias of a registered model, watched: where it leads is what is served."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tasks.contract.errors import SmokeTestFailed, VersionError
from tasks.serving.model import ServedModel
from tasks.serving.served import Served, open_registered
from tasks.store import registry, tracking

log = logging.getLogger("slimline.serving")


def find(name: str, which: str, threads: int) -> Served:
    """The version that an alias or number leads to, opened and tried.

    Raises:
        VersionError: there is none, or its files are not those that were measured.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    return opened(led_to(name, which), threads)


def led_to(name: str, which: str) -> registry.Registered:
    """The version that an alias or number leads to.

    Raises:
        VersionError: there is none.

    """
    version = registry.version_of(name, which)
    if version is None:
        raise VersionError("model", f"models:/{name}@{which}", "there is no such version; `slimline promote` makes one")
    return version


def opened(version: registry.Registered, threads: int) -> Served:
    """A registered version, opened and tried.

    Raises:
        VersionError: its files are not those that were measured.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    return open_registered(version.uri, version.name, version.version, tracking.download(version.uri), threads)


def following(model: ServedModel, which: str, threads: int, seconds: float) -> Callable[[], Awaitable[None]]:
    """Follow an alias for ever: a new version is opened and tried beside the old one, and then takes its place.

    One that cannot be served is logged and not opened again, and the old one goes on; so it does while the
    registry is away.
    """

    async def follow() -> None:
        refused, logged = 0, ""
        while True:
            await asyncio.sleep(seconds)
            try:
                version = await asyncio.to_thread(led_to, model.name, which)
                if version.version == refused:
                    continue
                refused = 0
                if str(version.version) == model.served.version:
                    continue
                try:
                    newer = await asyncio.to_thread(opened, version, threads)
                except (VersionError, SmokeTestFailed):  # the files are what they are: no use in another look
                    refused = version.version
                    raise
            except Exception as error:  # whatever the registry or the file does, what is served goes on
                if str(error) != logged:
                    log.error("still serving version %s: %s", model.served.version, error)
                logged = str(error)
                continue
            logged = ""
            log.warning("version %s takes the place of version %s", newer.version, model.served.version)
            model.take(newer)

    return follow
