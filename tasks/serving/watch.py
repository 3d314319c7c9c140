"""The alias of a registered model, watched: where it leads is what is served."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tasks import registry, tracking
from tasks.errors import VersionError
from tasks.serving.model import ServedModel
from tasks.serving.served import Served, open_registered

log = logging.getLogger("slimline.serving")


def find(name: str, which: str, threads: int, now: str = "") -> Served | None:
    """The version that an alias or number leads to, opened and tried; nothing if it is version `now`.

    Raises:
        VersionError: there is none, or its files are not those that were measured.
        SmokeTestFailed: it answers otherwise than when it was registered.

    """
    version = registry.version_of(name, which)
    if version is None:
        raise VersionError("model", f"models:/{name}@{which}", "there is no such version; `slimline promote` makes one")
    if str(version.version) == now:
        return None
    return open_registered(version.uri, name, version.version, tracking.download(version.uri), threads)


def following(model: ServedModel, which: str, threads: int, seconds: float) -> Callable[[], Awaitable[None]]:
    """Follow an alias for ever: a new version is opened and tried beside the old one, and then takes its place.

    One that cannot be served is told in the log, and the old one goes on; so it does while the registry is away.
    """

    async def follow() -> None:
        refused = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await asyncio.to_thread(find, model.name, which, threads, model.served.version)
            except Exception as error:  # whatever the registry or the file does, what is served goes on
                if str(error) != refused:
                    log.error("still serving version %s: %s", model.served.version, error)
                refused = str(error)
                continue
            refused = ""
            if found:
                log.warning("version %s takes the place of version %s", found.version, model.served.version)
                model.served = found

    return follow
