"""A bundle's image, built and pushed by the Docker or the Podman that is here, with the credentials that those have."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from tasks.contract.errors import ImageFailed, OptionWrong

# As Docker reads names (github.com/distribution/reference), but for one thing: a registry has to be written out, where
# Docker would take its own.
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = rf"(?:localhost(?::[0-9]+)?|{_LABEL}:[0-9]+|{_LABEL}(?:\.{_LABEL})+(?::[0-9]+)?)"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = rf"^(?:{_REGISTRY}(?:/{_PART})+)?$"
QUOTED = 15  # lines of a program's output that a message has


def check_push(repository: str, server: str) -> str:
    """The program that can build and push an image here: `docker` or `podman`.

    Raises:
        OptionWrong: the bundle is no image, the repository has no name of one, or neither program can work here.

    """
    if server != "docker":
        raise OptionWrong("push", repository, f"a bundle for {server} is no image: `--to docker` makes one")
    if not re.fullmatch(REPOSITORY, repository) or len(repository) > 255:
        raise OptionWrong(
            "push", repository, "is no REGISTRY/NAME, such as registry.example.org/team/digits, without a tag"
        )
    reasons = []
    for program, question in (("docker", ["version", "--format", "{{.Server.Version}}"]), ("podman", ["version"])):
        try:
            done = subprocess.run([program, *question], capture_output=True, text=True, check=False)  # noqa: S603  ours
        except OSError as error:
            reasons.append(f"{program}: {error.strerror}")
            continue
        if done.returncode == 0:
            return program
        reasons.append(f"{program}: {' '.join(done.stderr.split())[:200]}")
    raise OptionWrong(
        "push", repository, f"needs Docker with its daemon, or Podman, on this machine ({'; '.join(reasons)})"
    )


def push_image(program: str, folder: Path, image: str) -> str:
    """Build the image of a bundle's folder, push it, and give its address by digest.

    Args:
        program: as `check_push` gave it.
        folder: with the `Dockerfile`.
        image: REGISTRY/NAME:TAG.

    Raises:
        ImageFailed: quotes the last lines of the program.

    """
    repository = image.rpartition(":")[0]
    _run([program, "build", "--tag", image, str(folder)])
    if program == "podman":  # what it knows of the image here may have another digest than what it pushed
        with tempfile.TemporaryDirectory() as place:
            _run([program, "push", "--digestfile", f"{place}/digest", image])
            return f"{repository}@{Path(place, 'digest').read_text().strip()}"
    _run([program, "push", image])
    digests = json.loads(_run([program, "image", "inspect", "--format", "{{json .RepoDigests}}", image]))
    for address in digests or ():
        if address.startswith(f"{repository}@sha256:"):
            return str(address)
    raise ImageFailed(f"{program} pushed {image} and knows no digest of it: {digests}")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  as a list
    if done.returncode != 0:
        said = "\n".join(f"{done.stdout}{done.stderr}".splitlines()[-QUOTED:])
        raise ImageFailed(f"`{' '.join(command)}` ended with {done.returncode}:\n{said}")
    return done.stdout
