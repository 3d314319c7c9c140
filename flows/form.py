"""The form of a compression in Prefect's UI: what decides. What is left empty is as the chosen recipe has it.

Its fields are the recipe's own, with the same bounds and descriptions. Every other setting is a line of `settings`.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from pydantic.fields import FieldInfo

from flows.recipe import StudentConfig, TeacherConfig
from tasks.contract.budget import Budget
from tasks.contract.problem import Problem
from tasks.data import DataConfig
from tasks.data.config import ReaderName
from tasks.distill import DistillConfig, DistillMethod
from tasks.measuring.config import ValidateConfig
from tasks.prune import PruneConfig, PruneMethod
from tasks.quantize import QuantizeConfig, QuantizeMethod
from tasks.training.loop import FitConfig

# Where a recipe has what does not stand in the form where it stands there.
PLACES = {
    "teacher.epochs": "teacher.fit.epochs",
    "method.distill": "distill.method",
    "method.prune": "prune.method",
    "method.quantize": "quantize.method",
    "budget.metric": "validate.metric",
}


def _like(model: type[BaseModel], name: str, title: str = "") -> Any:
    """A field of the recipe, which may be left empty here."""
    field: FieldInfo = copy.copy(model.model_fields[name])
    field.default, field.title = None, title or field.title
    return field


def _as_drawn(schema: dict[str, Any]) -> None:
    """Fields in their order here, of their one type: Prefect's UI draws a field that may be null as two."""
    for position, field in enumerate(schema["properties"].values()):
        (kind,) = (kind for kind in field.pop("anyOf") if kind != {"type": "null"})
        del field["default"]
        field |= {**kind, "position": position}


class Part(BaseModel):
    """Settings of one part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_as_drawn)

    @model_serializer(mode="wrap")
    def _what_is_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value not in (None, "")}


class Data(Part):
    """Which examples are learned from and measured on."""

    reader: ReaderName | None = _like(DataConfig, "reader")
    source: str | None = _like(DataConfig, "source")
    problem: Problem | None = _like(DataConfig, "problem")
    target: str | None = _like(DataConfig, "target")


class Teacher(Part):
    """The accurate model."""

    model: str | None = _like(TeacherConfig, "model")
    width: float | None = _like(TeacherConfig, "width")
    epochs: int | None = _like(FitConfig, "epochs")


class Student(Part):
    """The small model that ships."""

    model: str | None = _like(StudentConfig, "model")
    width: float | None = _like(StudentConfig, "width")


class Method(Part):
    """What makes it small."""

    distill: DistillMethod | None = _like(DistillConfig, "method", "Distill")
    prune: PruneMethod | None = _like(PruneConfig, "method", "Prune")
    quantize: QuantizeMethod | None = _like(QuantizeConfig, "method", "Quantize")


class Limits(Part):
    """What a version must keep to be registered."""

    metric: str | None = _like(ValidateConfig, "metric")
    max_accuracy_drop: float | None = _like(Budget, "max_accuracy_drop")
    max_drop: float | None = _like(Budget, "max_drop")
    max_size_bytes: int | None = _like(Budget, "max_size_bytes")
    min_size_ratio: float | None = _like(Budget, "min_size_ratio")
    max_latency_ms: float | None = _like(Budget, "max_latency_ms")
    min_speedup: float | None = _like(Budget, "min_speedup")
    min_integer_share: float | None = _like(Budget, "min_integer_share")


def choices(form: Mapping[str, Any]) -> dict[str, Any]:
    """What was set in the form, by its place in a recipe."""
    chosen = {}
    for group, part in form.items():
        fields = part.model_dump() if isinstance(part, Part) else {"": part}
        for name, value in fields.items():
            place = f"{group}.{name}".rstrip(".")
            if value not in ("", (), []):
                chosen[PLACES.get(place, place)] = value
    return chosen


def as_settings(form: Mapping[str, Any], more: Sequence[str]) -> list[str]:
    """What was set as overrides of a recipe, and behind them those that were typed, which win."""
    return [*(f"{place}={json.dumps(value)}" for place, value in choices(form).items()), *more]
