"""The recipe: the whole typed input of one compression. The YAML file, the command line and the Prefect form are all this model."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from tasks.distill import DistillConfig
from tasks.evidence import Evidence
from tasks.fit import FitConfig
from tasks.prune import PruneConfig
from tasks.quantize import QuantizeConfig
from tasks.validate import ValidateConfig

from tasks.artifact import Target
from tasks.data import DataConfig
from tasks.errors import RecipeError
from tasks.register import RegisterConfig
from tasks.zoo import ModelConfig

MAX_BYTES = 1_000_000  # a recipe is a page of text; more is a mistake or an attack on the parser


def _at(position: int) -> dict[str, Any]:
    """Where a field stands in Prefect's form, which would sort fields by name."""
    return {"position": position}


class TeacherConfig(ModelConfig, frozen=True, extra="forbid"):
    """The accurate model, and how it is trained."""

    fit: FitConfig = Field(
        FitConfig(), description="How it is trained; epochs 0 takes the model as it is.", json_schema_extra=_at(3)
    )


class StudentConfig(ModelConfig, frozen=True, extra="forbid"):
    """The small model that ships."""

    model: str = Field(
        "teacher",
        description="What ships: `teacher` for the teacher itself, a zoo name, a file, or package.module:function.",
        json_schema_extra=_at(0),
    )


class Budget(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The limits that a version must keep to be registered. Accuracy is held by every shipped file and by the bad end of its
    interval; size, latency and integer share by the first target's file.
    """

    max_accuracy_drop: float = Field(
        0.02,
        ge=0,
        le=1,
        description="How much lower than the teacher's the score may be, at the bad end of the interval.",
        json_schema_extra=_at(0),
    )
    max_size_bytes: int = Field(
        0, ge=0, description="Largest file in bytes; 0 sets no limit.", json_schema_extra=_at(1)
    )
    min_size_ratio: float = Field(
        0,
        ge=0,
        description="How many times smaller than the teacher's float file it must be; 0 sets no limit.",
        json_schema_extra=_at(2),
    )
    max_latency_ms: float = Field(
        0,
        ge=0,
        description="Longest median latency in milliseconds at batch 1; 0 sets no limit.",
        json_schema_extra=_at(3),
    )
    min_speedup: float = Field(
        0,
        ge=0,
        description="How many times faster than the teacher it must be, at the bad end of the interval; 0 sets no limit.",
        json_schema_extra=_at(4),
    )
    min_integer_share: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of multiply-accumulates that must really run in integer kernels.",
        json_schema_extra=_at(5),
    )


class Recipe(BaseModel):
    """A Keras model and a data set in, a small registered model version out."""

    # `validate` and `register` would hide methods of Pydantic's own, so they are aliases: the file and the form say
    # `validate`, the code says `validation`.
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    name: str = Field(
        pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
        description="What the registered model is called: lower-case letters, digits, - and _.",
        json_schema_extra=_at(0),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Another seed is another training; the same gives the same digest.",
        json_schema_extra=_at(1),
    )
    data: DataConfig = Field(DataConfig(), description="What is trained and measured on.", json_schema_extra=_at(2))
    teacher: TeacherConfig = Field(TeacherConfig(), description="The accurate model.", json_schema_extra=_at(3))
    student: StudentConfig = Field(StudentConfig(), description="The small model that ships.", json_schema_extra=_at(4))
    distill: DistillConfig = Field(
        DistillConfig(), description="How the teacher teaches the student.", json_schema_extra=_at(5)
    )
    prune: PruneConfig = Field(PruneConfig(), description="How many weights become zero.", json_schema_extra=_at(6))
    quantize: QuantizeConfig = Field(
        QuantizeConfig(), description="How floats become integers.", json_schema_extra=_at(7)
    )
    targets: tuple[Target, ...] = Field(
        ("onnxruntime", "litert", "savedmodel"),
        min_length=1,
        description="The runtimes that files are made for. The first one's file has to keep the budget's size, latency and "
        "integer share. The registered version's default flavour needs onnxruntime among them.",
        json_schema_extra=_at(8),
    )
    validation: ValidateConfig = Field(
        ValidateConfig(), alias="validate", description="How evidence is measured.", json_schema_extra=_at(9)
    )
    budget: Budget = Field(Budget(), description="The limits that a version must keep.", json_schema_extra=_at(10))
    registration: RegisterConfig = Field(
        RegisterConfig(), alias="register", description="Where the version goes.", json_schema_extra=_at(11)
    )

    @field_validator("targets")
    @classmethod
    def _each_target_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if len(set(targets)) != len(targets):
            raise ValueError("name each target once")
        if "onnxruntime" not in targets:
            raise ValueError("onnxruntime must be among them: its file is what `mlflow.pyfunc.load_model` runs")
        return targets

    @model_validator(mode="after")
    def _student_to_teach(self) -> Self:
        if self.student.model == "teacher" and self.distill.method != "none":
            raise ValueError(
                f"student.model: 'teacher' cannot be taught by itself (distill.method is {self.distill.method!r}): "
                "name a student, or set distill.method to none"
            )
        return self

    @property
    def registered_name(self) -> str:
        """The registered model's name."""
        return self.registration.name or self.name

    def as_yaml(self) -> str:
        """Every setting in the recipe's own order: the one form that its digest is taken of."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, with dotted overrides such as `student.width=0.5` put in before it is checked.

    Raises:
        RecipeError: the file is not there, not YAML, or not a recipe; names the field, the value and what would be right.

    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RecipeError("recipe", str(path), f"it has {size:,} bytes; a recipe has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("recipe", str(path), f"cannot be read: {error}; give the path of a YAML file") from error
    settings = _parse(text, str(path))
    if not isinstance(settings, dict):
        raise RecipeError("recipe", str(path), "holds no settings; a recipe is a YAML mapping such as `name: digits`")
    for override in overrides:
        _override(settings, override)
    return check_settings(settings)


def check_settings(settings: dict[str, Any]) -> Recipe:
    """Settings as a recipe.

    Raises:
        RecipeError: they are not one; the message has a line for each thing that is wrong.

    """
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        problems = [_explain(dict(detail)) for detail in error.errors()]
        field, value, remedy = problems[0]
        more = "".join(f"\n{field}: {value!r}: {remedy}" for field, value, remedy in problems[1:])
        raise RecipeError(field, value, remedy + more) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key given twice, where it would silently take the last."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
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
        said = " ".join(str(error).split())
        raise RecipeError("recipe", where, f"is not plain YAML: {said}") from error


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


def _explain(detail: dict[str, Any]) -> tuple[str, object, str]:
    """One of Pydantic's complaints as field, value and what would be right."""
    location: tuple[Any, ...] = detail["loc"]
    field = ".".join(str(part) for part in location) or "recipe"
    value, message = detail["input"], str(detail["msg"]).removeprefix("Value error, ")
    if not location:  # a check of the whole: its message names the field itself
        return "recipe", value.get("name") if isinstance(value, dict) else value, message
    if detail["type"] == "extra_forbidden":
        known = _known_fields(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        return field, value, f"there is no such setting; {hint}Known here: {', '.join(known)}"
    if detail["type"] == "missing":
        return field, None, "must be given"
    return field, value, message[0].lower() + message[1:]


def _known_fields(location: Iterable[Any]) -> list[str]:
    model: Any = Recipe
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def breaches(budget: Budget, evidence: Evidence) -> list[str]:
    """Every limit that the evidence does not keep: which, by how much, and which knob to turn."""
    shipped = [file for file in evidence.files if file.shipped]
    broken = []
    for file in shipped:
        worst = file.drop.high
        if worst > budget.max_accuracy_drop:
            broken.append(
                f"budget.max_accuracy_drop = {budget.max_accuracy_drop:g}: the {file.target} file's {evidence.score} may be "
                f"{worst:.4f} below the teacher's (measured {file.drop.estimate:.4f}, interval {file.drop.low:.4f} to {worst:.4f}): "
                "train or distill longer, prune less (prune.sparsity), widen the student (student.width), "
                "or measure on more test examples"
            )
    served = shipped[0]
    teacher = next(file for file in evidence.files if file.role == "teacher" and file.target == served.target)
    ratio = teacher.size_bytes / served.size_bytes
    milliseconds = served.latency.p50 * 1000
    limits = [
        (
            budget.max_size_bytes and served.size_bytes > budget.max_size_bytes,
            f"budget.max_size_bytes = {budget.max_size_bytes}: the {served.target} file has {served.size_bytes} bytes: "
            "narrow the student (student.width) or quantize",
        ),
        (
            budget.min_size_ratio and ratio < budget.min_size_ratio,
            f"budget.min_size_ratio = {budget.min_size_ratio:g}: the {served.target} file is {ratio:.2f} times smaller than the "
            "teacher's: narrow the student (student.width) or quantize",
        ),
        (
            budget.max_latency_ms and milliseconds > budget.max_latency_ms,
            f"budget.max_latency_ms = {budget.max_latency_ms:g}: the {served.target} file's median is {milliseconds:.4f} ms: "
            "narrow the student (student.width) or try another quantize.method",
        ),
        (
            budget.min_speedup and served.speedup.low < budget.min_speedup,
            f"budget.min_speedup = {budget.min_speedup:g}: the {served.target} file may be only {served.speedup.low:.2f} times as "
            f"fast as the teacher (measured {served.speedup.estimate:.2f}): narrow the student (student.width)",
        ),
        (
            served.integer_share < budget.min_integer_share,
            f"budget.min_integer_share = {budget.min_integer_share:g}: {served.integer_share:.3f} of the {served.target} file's "
            "multiply-accumulates run in integer kernels: set quantize.method to training or post_training; "
            "the evidence names each layer that stayed in float",
        ),
    ]
    return broken + [message for breach, message in limits if breach]
