"""Reading a recipe: a YAML file and dotted overrides in, a recipe or one message about what is wrong with it out."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from flows.recipe import Recipe
from flows.shipped import RECIPES
from tasks.contract.errors import RecipeError
from tasks.store import tracking

M = TypeVar("M", bound=BaseModel)
RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]  # a drop-down in Prefect's form
RegisteredName = Annotated[str, Field(pattern="^([a-z0-9][a-z0-9_-]{0,62})?$")]
HINT = f"give the path of a YAML file, or the name of a recipe that is shipped: {', '.join(RECIPES)}"
MAX_BYTES = 1_000_000  # a recipe is a page of text; more is a mistake or an attack on the parser


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, with dotted overrides such as `student.width=0.5` put in before it is checked.

    Raises:
        RecipeError: the file is not there, not YAML, or not a recipe; names the field, the value and the way out.

    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RecipeError("recipe", str(path), f"it has {size:,} bytes; a recipe has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("recipe", str(path), f"cannot be read: {error}; {HINT}") from error
    settings = _parse(text, str(path))
    if not isinstance(settings, dict):
        raise RecipeError("recipe", str(path), "holds no settings; a recipe is a YAML mapping such as `name: digits`")
    return check_settings(with_overrides(settings, overrides))


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
        more = "".join(f"\n{field}: {value!r}: {remedy}" for field, value, remedy in problems[1:])
        raise RecipeError(field, value, remedy + more) from error


def registered_recipe(uri: str) -> Recipe:
    """The recipe that a registered version was made by.

    Raises:
        RecipeError: it was made by a Slimline whose recipes were others.

    """
    return read_recipe(tracking.download(f"{uri}/recipe.yaml"))


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


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  a SafeLoader: builds no objects
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
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]
