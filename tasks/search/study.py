"""A search's study: what was tried and what came of it, in a database, so that a search that was killed goes on.

Trials are asked for in batches and told one by one. What is drawn hangs on the seed, the trial's number and what was
told of batches before, and on nothing else: not on who asks, how often it was killed, or how many are at work.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from tasks.contract.errors import StoreError
from tasks.contract.state_folder import home
from tasks.evidence.evidence import Tried
from tasks.search.space import Goal, Settings, Space
from tasks.store.pausing import Pause

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

DATABASE = "SLIMLINE_STUDIES"  # an environment variable: the address of a database that several machines share
SETTINGS, OUTCOME, PAUSED = "settings", "outcome", "paused at rung {}"  # attributes of Optuna's trials
UNTRAINED = 1.0  # told as the drop of what was not trained: as bad as a share can be; its limits tell the sampler why


class Outcome(BaseModel, frozen=True, extra="forbid"):
    """What came of a trial, or so far: measured on the validation split."""

    how: Literal["measured", "rejected", "failed", "paused", "stopped"] = Field(
        description="Trained and measured; or not trained, as it was too large or too slow already; or refused; or "
        "trained in part, and waiting for the others at its rung; or stopped there."
    )
    files: tuple[Tried, ...] = Field((), description="For each target what would ship, the first one's first.")
    reached: Pause | None = Field(
        None, description="Of one that was trained in part: how far. Its files are then those of an untrained student."
    )
    run: str = Field("", description="Its run in MLflow.")
    why: str = Field("", description="Of one that was not measured.")

    @property
    def inside(self) -> bool:
        """Whether every file keeps the budget, drops by the bad end of their interval."""
        return self.how == "measured" and all(file.inside for file in self.files)

    @property
    def misses(self) -> dict[str, float]:
        """By which share each limit of the budget is missed, of the worst file."""
        worst: dict[str, float] = {}
        for file in self.files:
            worst |= {name: max(by, worst.get(name, 0)) for name, by in file.misses.items()}
        return worst

    def value(self, goal: Goal) -> float:
        """The figure of a goal, of which less is better: a drop, bytes, or a share of the teacher's latency.

        Trials are measured hours apart, and each one beside the teacher: in its share the machine's moods cancel out.
        """
        file = next(file for file in self.files if goal.target in ("", file.target))
        if goal.figure == "size":
            return float(file.size_bytes)
        if goal.figure == "latency":
            return 1 / file.speedup.estimate
        return file.drop.estimate if self.how == "measured" else UNTRAINED


@dataclass(frozen=True)
class Asked:
    """A trial that is to be made. number: from 1. settings: what is other in it than in the search's recipe."""

    number: int
    settings: Settings


@dataclass(frozen=True)
class Trial(Asked):
    """One that was told."""

    outcome: Outcome


class Study:
    """The trials of one search, wherever its database is."""

    def __init__(self, about: dict[str, Any], space: Space, fixed: Mapping[str, Any], seed: int) -> None:
        """Open it, or begin it.

        Args:
            about: what its trials' outcomes hang on beside the space: another recipe, other data, another machine that
                measures are other studies.
            space: what is tried.
            fixed: the recipe's settings by their place.
            seed: of all that is drawn.

        Raises:
            StoreError: its database cannot be opened.

        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        content = json.dumps([about, space.drawn_by, seed], sort_keys=True)
        self.name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.space, self.fixed, self.seed = space, fixed, seed
        address = os.environ.get(DATABASE) or f"sqlite:///{home() / 'studies.db'}"
        try:
            self.study = optuna.create_study(
                storage=optuna.storages.RDBStorage(address),
                study_name=self.name,
                directions=["minimize"] * len(space.goals),
                sampler=self._sampler(),
                load_if_exists=True,
            )
        except SQLAlchemyError as error:
            raise StoreError(f"the database of studies ({DATABASE}) cannot be opened: {error}") from error

    def batch(self) -> list[Asked]:
        """Trials that are to be made: those that were asked for and not told, else the next ones; at its end none."""
        there = self._read_all()
        begun = len(there) > len(_told(there))
        # one that was being asked for when its search was killed is asked for to its end before any of it is made
        places = -len(there) % self.space.batch or (0 if begun else self.space.batch)
        for number in range(len(there), min(len(there) + places, self.space.trials)):
            self.study.sampler = self._sampler(number)
            self.study.ask()
        return [each for each in self._read_all() if not isinstance(each, Trial)]

    def trials(self) -> list[Trial]:
        """Those that were told, by number."""
        return _told(self._read_all())

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep what came of a trial; one that was told stays as it is."""
        there = self.study.get_trials(deepcopy=False)[number - 1]
        if not there.state.is_finished():
            self._open(there).set_user_attr(OUTCOME, outcome.model_dump(mode="json"))
            self._finish(there, outcome)

    def pause(self, number: int, rung: int, outcome: Outcome) -> None:
        """Keep how far a trial has come at a rung, counted from 1."""
        there = self.study.get_trials(deepcopy=False)[number - 1]
        self._open(there).set_user_attr(PAUSED.format(rung), outcome.model_dump(mode="json"))

    def paused(self, number: int, rung: int) -> Outcome | None:
        """How far a trial had come at a rung; none if it was not there."""
        kept = self.study.get_trials(deepcopy=False)[number - 1].user_attrs.get(PAUSED.format(rung))
        return Outcome.model_validate(kept) if kept is not None else None

    def go_on(
        self, rung: int, waiting: "Sequence[Trial]", choose: "Callable[[Sequence[Trial]], list[int]]"
    ) -> set[int]:
        """Which trials go on from a rung, by number: as was decided before, and as `choose` says of the others.

        A decision is one attribute of the study, and so there as a whole or not at all.
        """
        decisions = [each for name, each in self.study.user_attrs.items() if name.startswith(f"rung {rung}:")]
        decided = {number for each in decisions for number in each["of"]}
        new = [trial for trial in waiting if trial.number not in decided]
        if new:
            numbers = [trial.number for trial in new]
            decisions.append({"of": numbers, "on": choose(new)})
            self.study.set_user_attr(f"rung {rung}: trials from {numbers[0]}", decisions[-1])
        return {number for each in decisions for number in each["on"]}

    def _read_all(self) -> list[Asked]:
        """All that were asked for, by number; what was drawn of one that a kill cut off is drawn to its end."""
        return [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]

    def _read(self, there: "FrozenTrial") -> Asked:
        kept = there.user_attrs.get(OUTCOME)
        outcome = Outcome.model_validate(kept) if kept is not None else None
        if outcome is not None and not there.state.is_finished():  # killed between the two
            self._finish(there, outcome)
        settings = there.user_attrs.get(SETTINGS)
        if settings is None:
            asked = self._open(there)
            settings = self.space.suggested(asked, self.fixed, partial(self._draw_anew, there.number))
            asked.set_user_attr(SETTINGS, settings)
        number = there.number + 1
        return Asked(number, settings) if outcome is None else Trial(number, settings, outcome)

    def _finish(self, there: "FrozenTrial", outcome: Outcome) -> None:
        from optuna.trial import TrialState

        asked = self._open(there)
        if outcome.how == "failed":
            self.study.tell(asked, state=TrialState.FAIL)
            return
        if outcome.how == "stopped":  # samplers take it for worse than all that went on, and for better than a refusal
            self.study.tell(asked, state=TrialState.PRUNED)
            return
        if not asked.constraints:  # zero or less is inside
            asked.set_constraint("budget", sum(outcome.misses.values()))
        self.study.tell(asked, [outcome.value(goal) for goal in self.space.aims])

    def _open(self, there: "FrozenTrial") -> "optuna.trial.Trial":
        """A trial that can be asked and told, also in another process than the one that began it."""
        import optuna

        return optuna.trial.Trial(self.study, there._trial_id)

    def _draw_anew(self, number: int, name: str) -> None:
        """Seed the sampler for one value, so that a trial that was cut off is drawn to the same end."""
        self.study.sampler = self._sampler(number, name)

    def _sampler(self, *what: object) -> "optuna.samplers.BaseSampler":
        from optuna.samplers import NSGAIISampler, TPESampler

        text = json.dumps([self.seed, *what])
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        if self.space.sampler == "nsga2":
            return NSGAIISampler(population_size=self.space.batch, seed=seed)
        return TPESampler(n_startup_trials=self.space.first, multivariate=False, seed=seed)


def _told(trials: Sequence[Asked]) -> list[Trial]:
    return [each for each in trials if isinstance(each, Trial)]
