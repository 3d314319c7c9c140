"""The server that bundles bring along: our own code, traced by its imports, and its libraries' versions."""

import ast
import re
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

from tasks.bundles.contents import Contents, render
from tasks.contract.errors import ServerFailed
from tasks.store.cache_key import ROOT, file_of, imports_of
from tasks.versions.manifest import write_manifest

MODULE = "tasks.serving"
# The image has the Python that the list of libraries was made for: the last release of its minor version.
PYTHONS = {(3, 11): "3.11.14", (3, 12): "3.12.12", (3, 13): "3.13.9"}
# onnx-ir: whether a file can saturate is in its numbers, which ONNX Runtime does not give away.
LIBRARIES = ("kserve", "onnxruntime", "onnx", "onnx-ir", "numpy")
# An address in the registry needs MLflow, and a stage Prefect: a server of a folder needs neither.
LEFT_OUT = frozenset({"tasks.store.tracking", "tasks.store.registry", "tasks.store.stage"})


def lay_out_server(folder: Path, image: str, served: str) -> None:
    """Fill a folder with `tasks/`, `requirements.txt` and `Dockerfile`, which make an image without this repository.

    Args:
        folder: where `model/` lies too, if it is to be in the image.
        image: what the image is called.
        served: the folder in it that is served: `/model`, or where a model will be mounted.

    """
    files = code()
    for file in files:
        place = folder / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    lines = "".join(f"{name}=={number}\n" for name, number in pinned({*LIBRARIES, *_libraries(files)}).items())
    (folder / "requirements.txt").write_text(lines)
    python = PYTHONS[sys.version_info[:2]]
    render("docker/Dockerfile", folder / "Dockerfile", image=image, folder=served, python=python)


def lay_out_model(folder: Path, contents: Contents) -> None:
    """Fill a folder with what the server serves: the model, what its answers are compared with, a manifest."""
    folder.mkdir(parents=True)
    shutil.copyfile(contents.version.folder / "model.onnx", folder / "model.onnx")
    contents.copy_reference_files(folder)
    write_manifest(folder, name=contents.name, version=contents.number, evidence_sha256=contents.evidence_sha256)


def code() -> list[Path]:
    """Our own files that the server reaches.

    Raises:
        ServerFailed: this installation of Slimline has no server.

    """
    files: dict[str, Path] = {}
    queue = [f"{MODULE}.__main__"]
    while queue:
        module = queue.pop()
        source = file_of(module)
        if module in files or module in LEFT_OUT or source is None:
            continue
        files[module] = source
        queue += [name for name in imports_of(ast.parse(source.read_bytes())) if name.split(".")[0] == "tasks"]
        queue += [module.rpartition(".")[0]] if "." in module else []  # Python runs a package's own file first
    if f"{MODULE}.__main__" not in files:
        raise ServerFailed(f"this installation has no {MODULE}: install all of Slimline")
    return sorted(set(files.values()))


def _libraries(files: Iterable[Path]) -> set[str]:
    """The distributions that files need as soon as they are imported."""
    known = packages_distributions()
    needed: set[str] = set()
    for file in files:
        top = ast.Module(
            body=[node for node in ast.parse(file.read_bytes()).body if not isinstance(node, ast.FunctionDef)],
            type_ignores=[],
        )
        names = {
            name.split(".")[0]
            for node in top.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in imports_of(node)
        }
        needed |= {known[name][0] for name in names if name in known and name not in ("tasks", "flows")}
    return needed


def pinned(roots: Iterable[str]) -> dict[str, str]:
    """Distributions and all that they need, with the versions that are installed and measured here, by name.

    Markers are judged for this Python and system: the image has the same Python and Linux.
    """
    from packaging.requirements import Requirement

    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(root) for root in roots]
    while queue:
        requirement = queue.pop()
        name, extras = re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            versions[name] = version(name)
        except PackageNotFoundError as error:
            raise ServerFailed(
                f"{name} is not installed, and the server needs it: pip install 'slimline[serve]'"
            ) from error
        for line in requires(name) or ():
            dependency = Requirement(line)
            requested = ("", *extras)
            if dependency.marker is None or any(dependency.marker.evaluate({"extra": extra}) for extra in requested):
                queue.append(dependency)
    return dict(sorted(versions.items()))
