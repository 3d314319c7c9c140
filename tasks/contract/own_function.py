"""A function of the user's own, named package.module:function: found, and imported from the very file that was found.

The working folder comes before installed packages. A file there that bears the name of another module, such as a
`tasks.py` or a `statistics.py`, is imported under a name of its own, so neither takes the other's place.
"""

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

_imported: dict[tuple[Path, str], ModuleType] = {}  # by file, and the digest of what was in it


def source_of(name: str) -> Path:
    """The file that a function's module is read from, found without running it.

    Raises:
        ModuleNotFoundError: there is no such module.

    """
    module = name.split(":")[0]
    top, *rest = module.split(".")
    file = _file(Path.cwd(), top, *rest)
    if file is None and (spec := _installed(top)) is not None:
        if not rest:
            file = Path(spec.origin) if spec.has_location and spec.origin else None
        else:
            places = (_file(Path(folder), *rest) for folder in spec.submodule_search_locations or ())
            file = next((place for place in places if place is not None), None)
    if file is None:
        raise ModuleNotFoundError(f"there is no module {module} here or among the installed packages")
    return file


def load(name: str) -> Callable[..., Any]:
    """The function. A file that has changed since it was imported is imported anew.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: it has no such function.
        Exception: whatever importing the module raises: it is the user's.

    """
    module_name, function_name = name.split(":")
    file = source_of(name)
    content = (file, hashlib.sha256(file.read_bytes()).hexdigest())
    if content not in _imported:
        _imported[content] = _import(module_name, file, content[1])
    function = getattr(_imported[content], function_name, None)
    if not callable(function):
        raise AttributeError(f"{module_name} ({file}) has no function {function_name}")
    return function  # type: ignore[no-any-return]


def _file(folder: Path, *parts: str) -> Path | None:
    """The file of a module below a folder: a package comes before a module, as in Python."""
    place = folder.joinpath(*parts)
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _installed(top: str) -> importlib.machinery.ModuleSpec | None:
    """What Python finds by this name if the working folder is left out, whatever has been imported."""
    here, path = Path.cwd(), sys.path
    sys.path = [folder for folder in path if Path(folder).absolute() != here]
    try:
        importlib.invalidate_caches()
        specs = (finder.find_spec(top, None) for finder in sys.meta_path)
        return next((spec for spec in specs if spec is not None), None)
    finally:
        sys.path = path


def _import(module: str, file: Path, digest: str) -> ModuleType:
    top = module.split(".")[0]
    here = Path.cwd()
    if _file(here, *module.split(".")) is None:
        return _checked(importlib.import_module(module), file)
    folder = str(here)
    sys.path.insert(0, folder)  # its neighbours come first while it is imported, as they do in a program there
    try:
        if top in sys.modules or _installed(top) is not None:
            return _checked(_import_beside(module, f"_{digest[:12]}_{top}", here / top), file)
        return _checked(importlib.import_module(module), file)
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # and last from then on: what libraries import later is not to be found here


def _import_beside(module: str, own: str, place: Path) -> ModuleType:
    """Import a module whose top has the name of another one, under a name of its own for that top."""
    top = place.name
    try:
        _import_as(own, place)
        return importlib.import_module(own + module.removeprefix(top))
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != top:
            raise
        raise ImportError(
            f"{error}: `{top}` is another module's name too, so {place} has to import its own parts relatively, such "
            "as `from .layers import …`"
        ) from error


def _import_as(name: str, place: Path) -> None:
    """Import the module or package at a place under another name."""
    file = _file(place.parent, place.name)
    if file is None:  # a folder without a file of its own: its modules are imported from it
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
    else:
        folders = [str(place)] if file.parent == place else None
        found = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
        assert found is not None
        spec = found
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def _checked(module: ModuleType, file: Path) -> ModuleType:
    """A module, held against the file that was found, of which the digest is."""
    if module.__file__ is None or not Path(module.__file__).samefile(file):
        raise ImportError(f"{module.__name__} is read from {module.__file__}, not from {file}")
    return module
