"""Addresses of data that lie elsewhere, such as `s3://bucket/data.parquet`: what is one, and what in it is a secret.

An address is kept with the recipe, in MLflow, in Prefect and in versions. So it has no secrets in it: those stand where
each protocol's library looks for them, in the environment or in files of its own.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(://|::)", re.IGNORECASE)
HERE = "file://"  # of files on this machine, which are read where they lie
USER = re.compile(r"([a-z0-9+.-]+)://([^/@?#\s]+)@", re.IGNORECASE)
SETTING = re.compile(r"([?&])([^=&#\s]+)=([^&#\s]+)")
SECRET = re.compile(r"(sig|signature|token|secret|passw\w*|pwd|credentials?|key|key_?id|auth\w*)$", re.IGNORECASE)
HIDDEN = "•••"


def is_address(value: str) -> bool:
    """Whether a value is an address, and no path, name or function."""
    return ADDRESS.match(value) is not None


def without_secrets(value: Any) -> Any:
    """A text with its addresses' secrets hidden: a password, any user on the web, a signature; all else as it is."""
    if not isinstance(value, str):
        return value

    def user(match: re.Match[str]) -> str:
        protocol, name = match.groups()
        secret = ":" in name or protocol.lower().startswith("http")  # where a token stands for a user
        return f"{protocol}://{HIDDEN}@" if secret else match[0]

    def setting(match: re.Match[str]) -> str:
        before, name, _ = match.groups()
        return f"{before}{name}={HIDDEN}" if SECRET.search(name) else match[0]

    return SETTING.sub(setting, USER.sub(user, value)) if "://" in value else value


def _refuse_secrets(value: str) -> str:
    if HIDDEN in value:
        raise ValueError(
            "has a secret in it, and recipes are kept and shown: leave it out. Credentials come from the environment, "
            "or from files of the protocol's own library: AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN, "
            "or what fsspec takes, such as FSSPEC_HTTPS"
        )
    return value


# Secrets are hidden first, so that the error about them has none either.
Address = Annotated[str, AfterValidator(_refuse_secrets), BeforeValidator(without_secrets)]
