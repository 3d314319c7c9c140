"""The space of a search: which settings of a recipe are tried, with which values, and what is to become better."""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str
Settings = dict[str, Value]  # by their place in a recipe, such as `student.width`
GOAL = re.compile(r"(?:([a-z]+)/)?(accuracy|size|latency)")


class Goal(NamedTuple):
    """One thing to make better. target: whose file; empty is the first one of the recipe."""

    target: str
    figure: str


class Choice(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The values that one setting may take: those that are named, or all between two numbers."""

    values: tuple[Value, ...] = Field((), description="Each value that is tried.")
    low: int | float | None = Field(None, description="The least value; whole numbers stay whole.")
    high: int | float | None = Field(None, description="The greatest value.")
    step: int | float | None = Field(None, gt=0, description="From one value to the next; every value if left out.")
    log: bool = Field(False, description="Whether half and double are as far apart: for widths and learning rates.")
    when: dict[str, tuple[Value, ...]] = Field(
        default={},
        description="Only where a setting above, or of the recipe, has one of these values, such as "
        "{prune.method: channels}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, written: object) -> object:
        """A list is its values; in `when` one value is a list of one."""
        if isinstance(written, list | tuple):
            return {"values": written}
        if isinstance(written, dict) and isinstance(written.get("when"), dict):
            when = {name: each if isinstance(each, list | tuple) else [each] for name, each in written["when"].items()}
            return {**written, "when": when}
        return written

    @model_validator(mode="after")
    def _values_or_a_range(self) -> Self:
        if bool(self.values) == (self.low is not None or self.high is not None):
            raise ValueError("write a list of values, or {low: …, high: …}")
        if self.values:
            if self.step or self.log:
                raise ValueError("`step` and `log` are of a range: write {low: …, high: …} beside them")
            return self
        if self.low is None or self.high is None or self.low > self.high:
            raise ValueError("write `low` and `high`, the lower one first")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("`log` needs a `low` above 0, and no `step`")
        return self

    def suggested(self, trial: "Trial", name: str) -> Value:
        """The value that a trial of Optuna's takes."""
        if self.values:
            chosen = trial.suggest_categorical(name, self.values)
            assert chosen is not None
            return chosen
        low, high = self.low, self.high
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int) and not isinstance(self.step, float):
            return trial.suggest_int(name, low, high, step=self.step or 1, log=self.log)
        drawn = trial.suggest_float(name, low, high, step=self.step, log=self.log)
        return min(max(float(f"{drawn:.4g}"), low), high)  # of four digits: people read it and type it again


class Space(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a search tries, how often, and for what."""

    settings: dict[str, Choice] = Field(
        min_length=1,
        description="By their place in a recipe, such as student.width: [a, list], or {low: 0.25, high: 2, log: true}.",
    )
    goals: tuple[str, ...] = Field(
        ("accuracy", "size", "latency"),
        min_length=1,
        description="What is to become better: accuracy, size, latency; of the first target's file, or of another's, "
        "as in litert/size. The recipe's budget is held in any case.",
    )
    trials: int = Field(16, ge=1, le=100_000, description="How many are tried: more find better ones, and take longer.")
    sampler: Literal["tpe", "nsga2"] = Field(
        "tpe",
        description="What is tried next: by a tree-structured Parzen estimator (Bergstra et al. 2011), for tens or "
        "hundreds of trials; or by NSGA-II (Deb et al. 2002), for thousands.",
    )
    first: int = Field(
        6, ge=1, le=10_000, description="For tpe: trials that are drawn before it learns from them: more look wider."
    )
    batch: int = Field(
        4,
        ge=1,
        le=1_000,
        description="Trials that are asked for together: what is tried is the same however many are at work.",
    )
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (),
        max_length=10,
        description="Successive halving (Jamieson and Talwalkar 2016): shares of the student's epochs, such as "
        "[0.1, 0.3], after which a batch's trials are compared, and those that are behind are stopped. None trains "
        "all of them to their end.",
    )
    reduction_factor: int = Field(
        3,
        ge=2,
        le=100,
        description="With rungs: of a batch's trials at one, one in so many goes on, and at least one: more stop more. "
        "It is Hyperband's η.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for number, (name, choice) in enumerate(self.settings.items()):
            if below := sorted(set(choice.when) & set(list(self.settings)[number:])):
                raise ValueError(f"settings.{name}: `when` names {', '.join(below)}: write that one above it")
        if strange := [goal for goal in self.goals if not GOAL.fullmatch(goal)]:
            raise ValueError(
                f"goals: {', '.join(strange)}: write accuracy, size or latency, or a target before it, as in "
                "litert/size"
            )
        if len(set(self.goals)) != len(self.goals):
            raise ValueError("goals: name each one once")
        if any(share >= later for share, later in itertools.pairwise(self.rungs)):
            raise ValueError("rungs: write the lower one first, and each one once")
        return self

    @property
    def aims(self) -> tuple[Goal, ...]:
        """The goals, taken apart."""
        return tuple(Goal(target, figure) for target, _, figure in (goal.rpartition("/") for goal in self.goals))

    def suggested(self, trial: "Trial", fixed: Mapping[str, Any], before: Callable[[str], None]) -> Settings:
        """What a trial of Optuna's tries: a value of each setting whose condition is kept.

        Args:
            trial: Optuna's.
            fixed: the recipe's settings by their place, which conditions may ask for too.
            before: called with each setting's name before its value is drawn.

        """
        chosen: Settings = {}
        for name, choice in self.settings.items():
            known = {
                other: chosen.get(other, None if other in self.settings else fixed[other]) for other in choice.when
            }
            if all(known[other] in values for other, values in choice.when.items()):
                before(name)
                chosen[name] = choice.suggested(trial, name)
        return chosen

    @property
    def in_words(self) -> dict[str, str]:
        """What it says, a line for each of its settings."""
        told = {
            name: json.dumps(choice.model_dump(mode="json", exclude_defaults=True))
            for name, choice in self.settings.items()
        }
        rest = self.model_dump(mode="json", exclude={"settings", "goals"})
        return {**told, "goals": ", ".join(self.goals), **{name: str(value) for name, value in rest.items()}}

    @property
    def drawn_by(self) -> Mapping[str, Any]:
        """What decides which trials there are, but for how many: a search with more of them goes on with these."""
        return self.model_dump(mode="json", exclude={"trials"})
