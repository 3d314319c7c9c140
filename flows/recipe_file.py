"""Reading a recipe: a YAML file and dotted overrides in, a recipe or one message about what is wrong with it out."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from flows.recipe import Recipe
from flows.shipped import RECIPES, SPACES
from tasks.contract.errors import RecipeError, shown
from tasks.contract.own_function import NAME as FUNCTION
from tasks.data import READERS
from tasks.data.address import is_address
from tasks.data.source import no_files
from tasks.search.space import Space
from tasks.versions.registered import open_registered
from tasks.versions.version import OpenVersion
from tasks.zoo import ARCHITECTURES

MAX_VALUES = 10_000  # that aliases may stand for; what is written out itself may be as long as the file
M = TypeVar("M", bound=BaseModel)
RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]  # a drop-down in Prefect's form
SpaceName = Annotated[str, Field(json_schema_extra={"enum": list(SPACES)})]
RegisteredName = Annotated[str, Field(pattern="^([a-z0-9][a-z0-9_-]{0,62})?$")]
HINT = f"give the path of a YAML file, or the name of a recipe that is shipped: {', '.join(RECIPES)}"
PATHS = {  # fields that may be paths
    "data": ("source", "test_source"),
    "data.table": ("vocabulary",),
    "teacher": ("model",),
    "student": ("model",),
}
READ_FROM_FILES = tuple(name for name, reader in READERS.items() if reader.files is not no_files)
MAX_BYTES = 1_000_000  # a recipe is a page of text; more is a mistake or an attack on the parser


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, with dotted overrides such as `student.width=0.5` put in before it is checked.

    Paths in the file are relative to its folder, those in overrides to the working folder. So are those of recipes that
    are shipped, which lie where no data of anybody's do, but for files that are shipped beside them.

    Raises:
        RecipeError: the file is not there, not YAML, or not a recipe; names the field, the value and the way out.

    """
    settings = _settings(path)
    _seen_from_here(settings, path.parent, shipped=path.resolve() in RECIPES.values())
    return check_settings(with_overrides(settings, overrides))


def read_space(path: Path) -> Space:
    """A file with the space of a search.

    Raises:
        RecipeError: as `read_recipe`, of a space.

    """
    return checked(Space, _settings(path, f"give the path of a YAML file, or of a shipped one: {', '.join(SPACES)}"))


def _settings(path: Path, hint: str = HINT) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RecipeError("recipe", str(path), f"it has {size:,} bytes; a recipe has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("recipe", str(path), f"cannot be read: {error}; {hint}") from error
    settings = _parse(text, str(path))
    if not isinstance(settings, dict):
        raise RecipeError("recipe", str(path), "holds no settings; a recipe is a YAML mapping such as `name: digits`")
    return settings


def _seen_from_here(settings: dict[str, Any], folder: Path, *, shipped: bool) -> None:
    """Write the relative paths of a recipe in a folder as they are seen from the working folder.

    Of a shipped one those alone that lie beside it. Where the recipe's is the working folder they stay what they are,
    and so does the recipe's digest.
    """
    groups = {group: values for group in PATHS if isinstance(values := _group(settings, group), dict)}
    for group, values in groups.items():
        for name, value in [(name, values.get(name)) for name in PATHS[group]]:
            if not isinstance(value, str) or not value or not _is_path(group, values, value):
                continue
            there, here = folder.absolute() / value, Path.cwd()
            if shipped and not there.exists():
                continue
            if folder.resolve() != here.resolve() and not value.startswith("~") and not Path(value).is_absolute():
                place = Path(os.path.normpath(there))
                values[name] = str(place.relative_to(here) if place.is_relative_to(here) else place)


def _group(settings: dict[str, Any], dotted: str) -> Any:
    found: Any = settings
    for name in dotted.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _is_path(group: str, values: dict[str, Any], value: str) -> bool:
    """Whether a value names a file or folder, and not a model of the zoo, a function, or one of Keras' data sets."""
    if group == "data.table":
        return True
    if group == "data":
        return values.get("reader") in READ_FROM_FILES and not is_address(value)
    return value != "teacher" and value not in ARCHITECTURES and not FUNCTION.fullmatch(value)


def with_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings with others put in, each in dotted form such as `student.width=0.5`.

    Raises:
        RecipeError: one is not of that form.

    """
    for override in overrides:
        _override(settings, override)
    return settings


def check_settings(settings: dict[str, Any]) -> Recipe:
    """Settings as a recipe.

    Raises:
        RecipeError: they are not one; the message has a line for each thing that is wrong.

    """
    return checked(Recipe, settings)


def checked(kind: type[M], settings: dict[str, Any]) -> M:
    """Settings as a model of ours; raises as `check_settings` does."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = [_explain(kind, dict(detail)) for detail in error.errors()]
        field, value, remedy = problems[0]
        more = "".join(f"\n{field}: {shown(value)}: {remedy}" for field, value, remedy in problems[1:])
        raise RecipeError(field, value, remedy + more) from error


def registered_recipe(uri: str) -> Recipe:
    """The recipe that a registered version was made by.

    Raises:
        VersionError: there is no such version.
        VersionDamaged: its files are not those that were registered.
        RecipeError: it was made by a Slimline whose recipes were others.

    """
    return recipe_of(open_registered(uri))


def recipe_of(version: OpenVersion) -> Recipe:
    """The recipe in an open version's folder; raises RecipeError as `registered_recipe`."""
    return check_settings(_settings(version.folder / "recipe.yaml"))


class _UniqueKeyLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key that stands twice, where it would silently take the last."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands here twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _check_size(document: yaml.Node) -> None:
    """Refuse a text whose aliases stand for more than a recipe can mean: ten lines of them make a thousand million.

    Raises:
        yaml.YAMLError: they do, or something is an alias of what it is in.

    """
    values: dict[int, int] = {}  # by node: how many it stands for, once all aliases in it are written out

    def count(node: yaml.Node, inside: tuple[int, ...]) -> int:
        if id(node) in inside:
            raise yaml.YAMLError("something is an alias of what it is in")
        if id(node) not in values:
            parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            within = parts if isinstance(node, yaml.CollectionNode) else []
            values[id(node)] = 1 + sum(count(part, (*inside, id(node))) for part in within)
        return values[id(node)]

    if count(document, ()) > max(len(values), MAX_VALUES):
        raise yaml.YAMLError(f"its aliases stand for more than {MAX_VALUES:,} values")


def _parse(text: str, where: str) -> Any:
    try:
        loader = _UniqueKeyLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError("recipe", where, f"is not plain YAML: {reason}") from error


def _override(settings: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not all(name.split(".")):
        raise RecipeError("override", override, "give it as field=value, such as student.width=0.5")
    *path, last = name.split(".")
    place: Any = settings
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(name, text, f"`{part}` is a value, not a group of settings")
    place[last] = _parse(text, override)


def _explain(kind: type[BaseModel], detail: dict[str, Any]) -> tuple[str, object, str]:
    """One of Pydantic's complaints as field, value and what would be right."""
    location: tuple[Any, ...] = detail["loc"]
    field = ".".join(str(part) for part in location) or "recipe"
    value, message = detail["input"], str(detail["msg"]).removeprefix("Value error, ")
    if not location:  # a check of the whole: its message names the field itself
        return "recipe", value.get("name") if isinstance(value, dict) else value, message
    if detail["type"] == "extra_forbidden":
        known = _known_fields(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        return field, value, f"there is no such setting; {hint}Known here: {', '.join(known)}"
    if detail["type"] == "missing":
        return field, None, "must be given"
    return field, value, message[0].lower() + message[1:]


def _known_fields(kind: type[BaseModel], location: Iterable[Any]) -> list[str]:
    model: Any = kind
    for part in location:
        if within := get_args(model):  # of a mapping or a list: what is in it
            model = within[-1]
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]
