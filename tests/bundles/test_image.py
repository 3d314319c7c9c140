"""Images of bundles: how they are called, who builds them, and what is said when nobody can."""

import os
import shutil
import subprocess

import pytest
from pydantic import ValidationError
from standing_docker import DIGEST, stand_in

from flows.deploy import DeployConfig
from tasks.bundles.image import check_push, push_image
from tasks.contract.errors import ImageFailed, OptionWrong

REGISTRY = "registry.example.org:5000/team/tiny"


def refused(config: dict) -> bool:
    try:
        DeployConfig.model_validate(config)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("", True),
        ("registry.example.org/tiny", True),
        ("localhost/tiny", True),
        ("registry:5000/tiny", True),
        ("docker.io/me/tiny__a.b-c", True),
        ("me/tiny", False),  # Docker would take it for one of its own registry
        ("tiny", False),
        ("registry.example.org/tiny:1", False),
        ("registry.example.org/Tiny", False),
        ("registry.example.org/tiny/", False),
        ("registry.example.org", False),
        ("https://registry.example.org/tiny", False),
        ("--help", False),
        ("registry.example.org/tiny\n", False),
        ("registry.example.org/tiny --push", False),
    ],
)
def test_what_names_a_repository(name, right):
    config = {"version": "models:/tiny/1", "to": "docker", "push": name}
    assert (DeployConfig.model_validate(config).push == name) if right else refused(config), "in Prefect's form too"
    if not right:
        with pytest.raises(OptionWrong, match=r"push: .* is no REGISTRY/NAME"):
            check_push(name, "docker")


def test_only_a_bundle_for_docker_is_an_image():
    with pytest.raises(OptionWrong, match=r"push: .*: a bundle for edge is no image: `--to docker` makes one"):
        check_push(REGISTRY, "edge")


def test_who_cannot_build_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionWrong, match=r"docker: No such file or directory; podman: No such file or directory"):
        check_push(REGISTRY, "docker")
    stand_in(tmp_path, "docker", daemon=False)
    with pytest.raises(OptionWrong, match=r"needs Docker with its daemon.*docker: Cannot connect to the Docker daemon"):
        check_push(REGISTRY, "docker")
    stand_in(tmp_path, "podman")
    assert check_push(REGISTRY, "docker") == "podman"
    stand_in(tmp_path, "docker")
    assert check_push(REGISTRY, "docker") == "docker"


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_an_image_is_built_pushed_and_called_by_its_digest(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told = stand_in(tmp_path, program)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "Dockerfile").write_text("FROM scratch\n")
    assert push_image(program, tmp_path / "bundle", f"{REGISTRY}:7") == f"{REGISTRY}@{DIGEST}"
    first, second, *_ = told.read_text().splitlines()
    assert first == f"build --tag {REGISTRY}:7 {tmp_path / 'bundle'}"
    assert second.startswith("push ")
    assert second.endswith(f" {REGISTRY}:7")


def test_what_the_program_says_of_its_failure_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stand_in(tmp_path, "docker")
    with pytest.raises(ImageFailed, match=r"`docker build --tag .*` ended with 1:\n.*failed to read dockerfile"):
        push_image("docker", tmp_path, f"{REGISTRY}:7")


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed")
@pytest.mark.parametrize(
    ("command", "options"),
    [("version", ["--format"]), ("build", ["--tag"]), ("push", []), ("image inspect", ["--format"])],
)
def test_docker_has_these_commands(command, options):
    help_text = subprocess.run(["docker", *command.split(), "--help"], capture_output=True, text=True, timeout=60)
    assert help_text.returncode == 0
    assert f"docker {command}" in help_text.stdout
    assert all(option in help_text.stdout for option in options)
