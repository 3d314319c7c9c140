"""The address of a registered version, as MLflow writes it: `models:/NAME@ALIAS` or `models:/NAME/3`."""

import re
from typing import Annotated, NamedTuple

from pydantic import Field

from tasks.contract.errors import VersionError

PATTERN = r"^models:/([a-z0-9][a-z0-9_-]{0,62})[@/]([a-z0-9_-]+)$"
VersionUri = Annotated[str, Field(pattern=PATTERN)]


class Address(NamedTuple):
    """A registered model's name, and which version of it: an alias, or a number."""

    name: str
    which: str


def parse(uri: str, beside: str = "") -> Address:
    """What an address says; `beside` is what else could be written, for the message.

    Raises:
        VersionError: it is none.

    """
    match = re.fullmatch(PATTERN, uri)
    if match is None:
        raise VersionError("version", uri, f"give it as models:/NAME@ALIAS or models:/NAME/3{beside}")
    return Address(*match.groups())
