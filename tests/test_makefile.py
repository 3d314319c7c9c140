"""What `make` does to a folder that a person has moved, or means to clean."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    """A checkout whose environment is ready, as far as `make` looks at it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".ready").write_text(f"{folder}\n")
    return folder


def make(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, input=typed, capture_output=True, text=True)


def test_the_environment_of_a_folder_that_was_moved_is_made_anew(folder):
    assert "venv --clear" not in make(folder, "--dry-run", "status").stdout
    moved = folder.rename(folder.with_name("moved"))
    assert "-m venv --clear .venv" in make(moved, "--dry-run", "status").stdout


@pytest.mark.parametrize(("typed", "removed"), [("", False), ("no\n", False), ("yes\n", True)])
def test_a_registry_is_removed_by_who_means_it(folder, typed, removed):
    (folder / ".slimline").mkdir()
    (folder / ".slimline" / "mlflow.db").write_text("versions")
    done = make(folder, "clean", typed=typed)
    assert (done.returncode == 0) == removed
    assert (folder / ".slimline" / "mlflow.db").exists() != removed
    if not removed:
        assert "nothing was removed" in done.stdout
        assert make(folder, "clean", "YES=1").returncode == 0
        assert not (folder / ".slimline").exists()


def test_what_holds_no_registry_goes_unasked(folder):
    (folder / ".slimline").mkdir()
    assert make(folder, "clean").returncode == 0
    assert not (folder / ".venv").exists()
