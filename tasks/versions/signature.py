"""A version's signature: who made it vouches for its files, with a key of their own and without a network.

The file is a Sigstore bundle as the OpenSSF Model Signing specification 1.0 has it, so that anyone can check it without
this program: `model_signing verify key FOLDER --signature FOLDER/model.sig --public_key FILE`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tasks.contract.errors import OptionWrong, VersionUnsigned
from tasks.versions.version import MLFLOW_NOTE, SIGNATURE

PRIVATE_KEY, PASSWORD, PUBLIC_KEY = "SLIMLINE_SIGNING_KEY", "SLIMLINE_SIGNING_PASSWORD", "SLIMLINE_PUBLIC_KEY"
CURVES = "an elliptic-curve key as PEM (`openssl ecparam -name prime256v1 -genkey -noout -out key.pem`)"


def signs() -> bool:
    """Whether versions that are made here are to be signed."""
    return bool(os.environ.get(PRIVATE_KEY))


def sign(folder: Path, to: Path) -> None:
    """Write the signature of all files in a folder but itself and MLflow's note.

    Raises:
        OptionWrong: there is no key, it cannot be read, or what signs is not installed.

    """
    from_library = signer()
    from model_signing.hashing import Config

    from_library.set_hashing_config(Config().set_ignored_paths(paths=[SIGNATURE, MLFLOW_NOTE], ignore_git_paths=False))
    beside = to.with_name(f".{to.name}.partial")
    from_library.sign(folder, beside)
    beside.replace(to)


def signer() -> Any:
    """What signs, with its key read: asked for before work begins too, so that a wrong key costs none.

    Raises:
        OptionWrong: there is no key, it cannot be read, or what signs is not installed.

    """
    with _readable(PRIVATE_KEY, f"has to be the file of {CURVES}, with its password in {PASSWORD} if it has one"):
        from model_signing.signing import Config

        password: Any = os.environ.get(PASSWORD, "").encode() or None  # it is typed as text, and text fails in 1.1
        return Config().use_elliptic_key_signer(private_key=Path(os.environ[PRIVATE_KEY]), password=password)


def signed_by(uri: str, folder: Path) -> str:
    """Whose signature a version's folder has: the sha256 of the public key; empty if no key is set to hold it against.

    Raises:
        VersionUnsigned: it has none, one by another key, or one of other files.
        OptionWrong: the key cannot be read.

    """
    if not os.environ.get(PUBLIC_KEY):
        return ""
    with _readable(PUBLIC_KEY, "has to be the file of a public key (`openssl ec -in key.pem -pubout -out key.pub`)"):
        from model_signing.verifying import Config

        key = Path(os.environ[PUBLIC_KEY])
        verifier = Config().use_elliptic_key_verifier(public_key=key)
    refused = partial(VersionUnsigned, uri, key)
    if not (folder / SIGNATURE).is_file():
        raise refused("it has no signature")
    try:
        verifier.verify(folder, folder / SIGNATURE)
        about = json.loads((folder / SIGNATURE).read_bytes())["verificationMaterial"]
        return str(about["publicKey"]["hint"])
    except Exception as error:  # of JSON, of protobuf and of cryptography: a file from outside can be anything
        raise refused(_why(error)) from error


def _why(error: Exception) -> str:
    """What the library found, in our words where its own are digests' inner ones or none at all."""
    text = str(error)
    if "Key mismatch" in text or not text:
        return "its signature is another key's"
    if "Signature mismatch" in text or "inconsistent" in text:
        return "its signature is that of other files"
    return f"its signature cannot be read: {text}"


@contextmanager
def _readable(variable: str, remedy: str) -> Iterator[None]:
    """Refuse a key that cannot be read by the variable that names it."""
    file = os.environ.get(variable)
    if not file:
        raise OptionWrong(variable, "not set", remedy)
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionWrong(variable, file, f"needs {error.name}: pip install 'slimline[signing]'") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:  # the last of keys that have no curve
        raise OptionWrong(variable, file, f"{remedy}: {error}") from error
