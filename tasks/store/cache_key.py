"""The cache rule: what a stage's result depends on, as one digest."""

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.contract.artifact import Artifact, digest_folder
from tasks.measuring.machine import processor

ROOT = Path(__file__).parents[2]


# Edges: what a stage computes passes through them, and none of it is computed there. So that a better message or plot
# does not train anew, their source is no part of a key, and neither is that of what only they import. A result that was
# reused may then look as an earlier source drew or laid it out: the plots beside evidence, MLflow's files of a version.
EDGES = frozenset(
    {
        "tasks.contract.errors",
        "tasks.contract.progress",
        "tasks.contract.state_folder",
        "tasks.evidence.plots",
        "tasks.store.cache_key",
        "tasks.store.registry",
        "tasks.store.stage",
        "tasks.store.tracking",
    }
)


# What modules of ours read beside their own source, and so is part of what they are.
FOLDERS = {"tasks.evidence.page": "tasks/evidence/templates"}


# The libraries that shape results, by the name they are imported under.
LIBRARIES = {
    "tensorflow": "tensorflow",
    "tf_keras": "tf-keras",
    "keras": "keras",
    "tensorflow_model_optimization": "tensorflow-model-optimization",
    "tf2onnx": "tf2onnx",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxruntime": "onnxruntime",
    "ai_edge_litert": "ai-edge-litert",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
}


def cache_key(name: str, module: str, arguments: Mapping[str, Any], *, measured_here: bool = False) -> str:
    """The cache rule: inputs by content, settings, the source that shapes the result, the libraries that shape it.

    Never a run id, a path, or a time: artifacts count by their sha256 and by the key that they were made under (what
    made them shapes what is made of them), and a config that names files gives its own `fingerprint()` of them.

    Args:
        name: the stage's, with its fields not filled in, as in `convert-{target}`.
        module: where the stage is: its source counts, and that of every module of ours it reaches but `EDGES`.
        arguments: the stage's, by name.
        measured_here: whether its result is what this machine measured: another processor then measures anew.

    """
    sources, libraries = _shaped_by(module)
    rule = {
        "stage": name,
        "inputs": {key: _content(value) for key, value in arguments.items()},
        "sources": sources,
        "libraries": libraries,
        **({"processor": processor()} if measured_here else {}),
    }
    return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()


def _content(value: Any) -> Any:
    """A value as JSON that depends on its content alone."""
    if isinstance(value, Artifact):
        return [value.sha256, value.key]
    if hasattr(value, "fingerprint"):
        return value.fingerprint()
    if isinstance(value, BaseModel):  # field by field, as there may be artifacts in it
        return {name: _content(each) for name, each in value}
    if isinstance(value, Mapping):  # in pairs: of targets, the first one is the default
        return [[str(key), _content(item)] for key, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_content(item) for item in value]
    return value


@functools.cache
def _shaped_by(module: str) -> tuple[dict[str, str], dict[str, str]]:
    """The modules of ours that a module reaches without passing an edge, by digest of their source; and libraries.

    Of the libraries that these import, those in `LIBRARIES`, by version.
    """
    sources: dict[str, str] = {}
    libraries: set[str] = set()
    queue = [module]
    while queue:
        current = queue.pop()
        if current in sources or current in EDGES:
            continue
        file = file_of(current)
        if file is None:
            continue
        sources[current], imported = _read(file)
        if current in FOLDERS:
            sources[FOLDERS[current]] = digest_folder(ROOT / FOLDERS[current])
        for name in imported:
            if name.split(".")[0] == "tasks":
                queue.append(name)
            elif (library := LIBRARIES.get(name.split(".")[0])) is not None:
                libraries.add(library)
    return sources, {name: importlib.metadata.version(name) for name in libraries}


@functools.cache
def _read(file: Path) -> tuple[str, frozenset[str]]:
    """The digest of a file's source, and what it imports; read once, as most stages reach most files."""
    source = file.read_bytes()
    return hashlib.sha256(source).hexdigest(), imports_of(ast.parse(source))


@functools.cache
def file_of(module: str) -> Path | None:
    """The file of one of our modules, located without importing it; nothing if the name is not a module's."""
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def imports_of(tree: ast.AST) -> frozenset[str]:
    """Every module that may be imported anywhere in a file, in functions too: `from a import b` names `a` and `a.b`.

    Imports relative to a package are left out: we have none.
    """
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(modules)
