"""The recipe: the whole typed input of one compression.

The YAML file, the command line and the form in Prefect's UI are all this model.
"""

from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.bring import Door
from tasks.channels.config import Goal
from tasks.contract.artifact import Precision, Role, Target
from tasks.contract.budget import Budget
from tasks.convert import ConvertConfig
from tasks.data import DataConfig
from tasks.distill import DistillConfig
from tasks.evidence.comparison import PromoteConfig
from tasks.formats import FORMATS
from tasks.measuring.config import ValidateConfig
from tasks.measuring.metrics import has_own_unit
from tasks.prune import PruneConfig
from tasks.quantize import QuantizeConfig
from tasks.register import RegisterConfig
from tasks.sensitivity import SensitivityConfig
from tasks.training.devices import TrainingConfig
from tasks.training.loop import FitConfig
from tasks.zoo import ModelConfig

LIMITS = ("max_size_bytes", "min_size_ratio", "max_latency_ms", "min_speedup")  # those that channels decide


def _at(position: int) -> dict[str, Any]:
    """Where a field stands in Prefect's form, which would sort fields by name."""
    return {"position": position}


class TeacherConfig(ModelConfig, frozen=True, extra="forbid", title="Teacher"):
    """The accurate model, and how it is trained."""

    fit: FitConfig = Field(
        FitConfig(),
        title="Fit the teacher",
        description="How it is trained; epochs 0 takes the model as it is.",
        json_schema_extra=_at(3),
    )
    floor: float = Field(
        0,
        ge=-1,
        description="The least accuracy, R², or other metric of validate.metric that it must have, or the most of an "
        "error; 0 asks for better than guessing, less than 0 for nothing.",
        json_schema_extra=_at(4),
    )


class StudentConfig(ModelConfig, frozen=True, extra="forbid", title="Student"):
    """The small model that ships."""

    model: str = Field(
        "teacher",
        description="What ships: `teacher` for the teacher itself, which prune cuts down; a zoo name, a file, or "
        "package.module:function.",
        json_schema_extra=_at(0),
    )


class Recipe(BaseModel):
    """A Keras model and a data set in, a small registered model version out."""

    # `validate` and `register` would hide methods of Pydantic's own, so they are aliases, and others go with them:
    # the file and the form say `validate`, the code says `validation`.
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: str = Field(
        pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
        description="What the registered model is called: lower-case letters, digits, - and _.",
        json_schema_extra=_at(0),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Another seed is another training; the same one gives the same digest.",
        json_schema_extra=_at(1),
    )
    data: DataConfig = Field(DataConfig(), description="What is trained and measured on.", json_schema_extra=_at(2))
    teacher: TeacherConfig = Field(TeacherConfig(), description="The accurate model.", json_schema_extra=_at(3))
    student: StudentConfig = Field(StudentConfig(), description="The small model that ships.", json_schema_extra=_at(4))
    distill: DistillConfig = Field(
        DistillConfig(), description="How the teacher teaches the student.", json_schema_extra=_at(5)
    )
    prune: PruneConfig = Field(PruneConfig(), description="What is removed from the student.", json_schema_extra=_at(6))
    quantize: QuantizeConfig = Field(
        QuantizeConfig(), description="How floats become integers.", json_schema_extra=_at(7)
    )
    targets: tuple[Target, ...] = Field(
        ("onnxruntime", "litert", "savedmodel"),
        min_length=1,
        description="The runtimes that files are made for. The first one's file has to keep the budget's size, latency "
        "and integer share. MLflow asks the onnxruntime file of a version, or the first one where there is none.",
        json_schema_extra=_at(8),
    )
    conversion: ConvertConfig = Field(
        ConvertConfig(), alias="convert", description="What the files are like.", json_schema_extra=_at(9)
    )
    validation: ValidateConfig = Field(
        ValidateConfig(), alias="validate", description="How evidence is measured.", json_schema_extra=_at(10)
    )
    budget: Budget = Field(Budget(), description="The limits that a version must keep.", json_schema_extra=_at(11))
    registration: RegisterConfig = Field(
        RegisterConfig(), alias="register", description="Where the version goes.", json_schema_extra=_at(12)
    )
    promotion: PromoteConfig = Field(
        PromoteConfig(),
        alias="promote",
        description="When the version may take the champion's place.",
        json_schema_extra=_at(13),
    )
    training: TrainingConfig = Field(
        TrainingConfig(),
        description="What trainings run on: the processor, or accelerators.",
        json_schema_extra=_at(14),
    )
    sensitivity: SensitivityConfig = Field(
        SensitivityConfig(),
        description="What `slimline sensitivity` measures of each layer; nothing else looks at it.",
        json_schema_extra=_at(15),
    )

    @field_validator("targets")
    @classmethod
    def _each_target_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if len(set(targets)) != len(targets):
            raise ValueError("name each target once")
        if not FORMATS[targets[0]].RUNS_HERE:
            raise ValueError(
                f"{targets[0]} cannot be the first: its runtime is not here, so no latency can be measured"
            )
        return targets

    @model_validator(mode="after")
    def _student_to_teach(self) -> Self:
        if self.student.model == "teacher" and self.distill.method != "none" and self.prune.method == "none":
            raise ValueError(
                f"student.model: 'teacher' is itself, and not taught by itself (distill.method is "
                f"{self.distill.method!r}): name a student, cut it down by prune.method, or set distill.method to none"
            )
        return self

    @model_validator(mode="after")
    def _limit_in_the_metrics_unit(self) -> Self:
        heads = self.data.of_heads
        for setting, named in (
            ("validate.metrics", self.validation.metrics),
            ("budget.max_drops", self.budget.max_drops),
        ):
            if unknown := sorted(set(named) - set(heads)):
                there = ", ".join(filter(None, heads)) or "none: data has one output"
                raise ValueError(f"{setting}: {', '.join(unknown)}: data.heads names {there}")
        for head in heads:
            metric, (limit, value) = self.validation.metric_of(head), self.budget.accuracy_of(head)
            if has_own_unit(metric) and limit == "max_accuracy_drop":
                setting = f"budget.max_drops.{head}" if head else "budget.max_drop"
                raise ValueError(
                    f"validate.metric: {metric!r} has a unit of its own, in which a budget.max_accuracy_drop of "
                    f"{value:g} says nothing: set {setting} to how much worse than the teacher's it may be"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _cut_to_the_budget(cls, settings: Any) -> Any:
        """Without a student that is named, the teacher's channels are cut until the budget's limits are kept."""
        if not isinstance(settings, dict) or "prune" in settings:
            return settings
        try:  # as fields or as objects, from a file or from a form
            student = StudentConfig.model_validate(settings.get("student", {}))
            budget = Budget.model_validate(settings.get("budget", {}))
        except ValidationError:
            return settings  # what is wrong with them is said of the fields
        if student.model != "teacher" or not any(getattr(budget, limit) for limit in LIMITS):
            return settings
        return {**settings, "prune": {"method": "channels"}}

    @property
    def goal(self) -> Goal:
        """What the shipped file is to be, for as far as pruning looks at it."""
        if self.prune.method != "channels" or self.prune.channels.of not in ("budget", "latency"):
            return Goal()
        return Goal(
            target=self.targets[0],
            precisions=self._may_ship,
            threads=self.validation.threads,
            confidence=self.validation.confidence,
            **{limit: getattr(self.budget, limit) for limit in LIMITS},
        )

    @property
    def _may_ship(self) -> tuple[Precision, ...]:
        """What the first target's file may compute in: with `auto` in floats too, where the budget allows it."""
        floats = self.quantize.method == "auto" and not self.budget.min_integer_share
        return ("float32", self.quantize.result) if floats else (self.quantize.result,)

    @property
    def models(self) -> dict[Role, ModelConfig]:
        """The models that are named; the student only where it is not the teacher itself."""
        student: dict[Role, ModelConfig] = {"student": self.student}
        return {"teacher": self.teacher, **(student if self.student.model != "teacher" else {})}

    @property
    def own(self) -> dict[Role, ModelConfig]:
        """Those that are none of the zoo's: they are looked at before anything is trained."""
        return {role: model for role, model in self.models.items() if model.brought}

    def door(self, role: Role) -> Door:
        """What a model that is brought must keep; a score only where it teaches as it is."""
        ships = role == "student" or self.student.model == "teacher"
        taught = role == "teacher" and not self.teacher.fit.epochs
        return Door(
            targets=self.targets,
            precision="int8" if ships and self.quantize.fake_quantizes else "float32",
            floor=self.teacher.floor if taught else -1,
            metrics={head: self.validation.metric_of(head) for head in self.data.of_heads},
            examples=self.validation.max_examples,
        )

    @property
    def registered_name(self) -> str:
        """The registered model's name."""
        return self.registration.name or self.name

    def as_yaml(self) -> str:
        """Every setting in the recipe's own order: the one form that its digest is taken of."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
