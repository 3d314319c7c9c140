"""A program in the place of `docker` or `podman`, for what takes a daemon: it answers, and keeps what it hears."""

from pathlib import Path

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
PROGRAM = """#!/bin/sh
case "$1" in
version)
    {version} ;;
build)
    echo "$*" >>"{told}"
    for context; do :; done
    [ -f "$context/Dockerfile" ] || {{ echo 'failed to read dockerfile: no such file' >&2; exit 1; }} ;;
push)
    echo "$*" >>"{told}"
    [ "$2" != --digestfile ] || printf '%s' {digest} >"$3" ;;
image)
    shift 4
    echo "[\\"elsewhere.example.org/other@sha256:1\\",\\"${{1%:*}}@{digest}\\"]" ;;
*)
    exit 125 ;;
esac
"""


def stand_in(folder: Path, program: str, *, daemon: bool = True) -> Path:
    """Put it into a folder of PATH; gives the file with what it was told to build and to push."""
    refusal = "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1"
    told = folder / f"{program}-told"
    text = PROGRAM.format(version="echo 28.2.2" if daemon else refusal, told=told, digest=DIGEST)
    (folder / program).write_text(text)
    (folder / program).chmod(0o755)
    return told
