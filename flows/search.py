"""The story of a search: recipes of a space are tried, what cannot keep the budget is not trained, and one is taken.

Every trial is measured on the validation split. The test split is asked once, about the one that is taken.
"""

import difflib
import json
from collections.abc import Sequence
from functools import partial

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, Field

from flows import run_name
from flows.check import check
from flows.compression import compressed
from flows.making import files_of, make
from flows.orphans import say_process
from flows.recipe import Recipe
from flows.recipe_file import RecipeName, SpaceName, check_settings, read_recipe, read_space, with_overrides
from flows.record import compressing, recorded
from flows.report import Compression
from flows.rungs import climbed
from flows.search_pages import figures_of, figures_so_far, nothing_inside, present, said
from flows.shipped import RECIPES, SPACES
from flows.turn import machine_alone
from flows.untrained import says_exactly, says_nearly, untrained
from tasks.contract.artifact import Target
from tasks.contract.errors import NothingInside, RecipeError, SlimlineError, StoreError
from tasks.contract.progress import listener
from tasks.evidence.evidence import Tried, missed, open_choice
from tasks.evidence.searched import Searched
from tasks.measuring.machine import processor
from tasks.search.front import best
from tasks.search.halving import COST_LIMITS
from tasks.search.space import Settings, Space
from tasks.search.study import Asked, Outcome, Study, Trial
from tasks.select import choose_files
from tasks.store import pages, tracking
from tasks.store.pausing import Paused, pausing
from tasks.store.stage_runs import newest

MARGIN = 0.05  # by how much more than it may, what is not trained has to weigh or take: its times are noisy too
STUDY, NUMBER = "slimline.study", "slimline.trial"  # tags: which search a run is, and which trial of its search


class Found(BaseModel, frozen=True):
    """The result of a search, as `slimline search --json` prints it."""

    compression: Compression
    search: Searched
    trial: int = Field(description="The one that was taken.")
    settings: Settings
    trials: list[dict[str, str]]
    mlflow_run: str
    mlflow_url: str


@flow(
    name="search",
    flow_run_name="{recipe.name}",
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def search(recipe: Recipe, space: Space) -> Found:
    """Try recipes of a space, and register the best one inside the budget, with the evidence of how it was found.

    A search that was stopped goes on where it was: by the same recipe and space, on the same data and processor.

    Args:
        recipe: What all of them are, but for the settings of the space; and the budget that is held.
        space: Which settings are tried, with which values, how often, and for what.

    """
    study = open_study(recipe, space, check(recipe).digest)
    settings = {"recipe": recipe.name, "study": study.name, "seed": recipe.seed, **space.in_words}
    tags, named = {STUDY: study.name}, {recipe.targets[0], *(goal.target for goal in space.aims)}
    with recorded("search", f"search-{recipe.name}", settings, tags, begun=newest(tags)) as run:
        targets = tuple(target for target in recipe.targets if target in named)
        while batch := study.batch():
            for trial in climbed(study, batch, partial(tried, recipe, targets, run)):
                listener().note("search", said(trial, space))
                if trial.outcome.how != "paused":
                    present(study.trials(), space, recipe.budget, run)
        trials = study.trials()
        taken = best(trials, space.aims, recipe.budget)
        if taken is None:
            raise NothingInside(nothing_inside(trials))
        searched = Searched(
            study=study.name,
            run=run,
            trials=len(trials),
            trained=sum(trial.outcome.how == "measured" for trial in trials),
            stopped=sum(trial.outcome.how == "stopped" for trial in trials),
            inside=sum(trial.outcome.inside for trial in trials),
            seed=recipe.seed,
        )
        compression = take(with_settings(recipe, taken.settings), searched)
        return Found(
            compression=compression,
            search=searched,
            trial=taken.number,
            settings=taken.settings,
            trials=present(trials, space, recipe.budget, run, compression),
            mlflow_run=run,
            mlflow_url=pages.ui_url(run),
        )


@flow(
    name="search-recipe",
    flow_run_name="{recipe}",
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def search_recipe(
    recipe: RecipeName = "digits",
    space: SpaceName = "default",
    trials: int = 0,
    settings: tuple[str, ...] = (),
) -> Found:
    """Search by a recipe of deployments/recipes in a space of deployments/spaces; register the best inside the budget.

    Args:
        recipe: What all trials are, but for the settings of the space; its budget is held.
        space: Which settings are tried, with which values, by its file's name.
        trials: How many are tried; 0 takes the space's own number.
        settings: Any other setting of the recipe, one a line, such as seed=5 or budget.min_size_ratio=20.

    """
    found: Found = search.fn(read_recipe(RECIPES[recipe], settings), of_trials(read_space(SPACES[space]), trials))
    return found


def of_trials(space: Space, trials: int) -> Space:
    """A space with another number of trials, if one is named."""
    return space.model_copy(update={"trials": trials}) if trials else space


def open_study(recipe: Recipe, space: Space, data: str) -> Study:
    """The study of a search, begun or gone on with.

    Raises:
        RecipeError: the space has settings or goals that the recipe has not.

    """
    fixed = dict(run_name.changes({}, recipe.model_dump(mode="json")))
    for name in [*space.settings, *(name for choice in space.settings.values() for name in choice.when)]:
        if name not in fixed:
            close = ", ".join(difflib.get_close_matches(name, fixed, n=3, cutoff=0.4))
            hint = f"near it are {close}" if close else "see `slimline schema`"
            raise RecipeError(f"settings.{name}", space.settings.get(name), f"a recipe has no such setting; {hint}")
    for goal in space.aims:
        if goal.target and goal.target not in recipe.targets:
            there = ", ".join(recipe.targets)
            raise RecipeError("goals", f"{goal.target}/{goal.figure}", f"targets of the recipe are: {there}")
    about = {"recipe": recipe.as_yaml(), "data": data, "processor": list(processor())}
    return Study(about, space, fixed, recipe.seed)


def with_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with others in their place; raises RecipeError where they do not go together."""
    overrides = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    return check_settings(with_overrides(recipe.model_dump(mode="json"), overrides))


def tried(recipe: Recipe, targets: tuple[Target, ...], run: str, asked: Asked, share: float) -> Outcome:
    """What comes of a trial; a refusal is an outcome too, and what is wrong with the store or the machine is not."""
    known = asked.outcome.files if isinstance(asked, Trial) else ()
    try:
        outcome: Outcome = try_recipe(recipe, asked.settings, targets, asked.number, run, share, known)
    except StoreError:
        raise
    except SlimlineError as error:
        return Outcome(how="failed", why=str(error))
    return outcome


def _trial_name() -> str:
    parameters = flow_run.parameters
    return run_name.named(f"trial {parameters['number']}", run_name.in_words(parameters["settings"]))


@flow(
    name="trial",
    flow_run_name=_trial_name,
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def try_recipe(
    recipe: Recipe,
    settings: Settings,
    targets: tuple[Target, ...],
    number: int,
    search: str,
    share: float = 1,
    known: tuple[Tried, ...] = (),
) -> Outcome:
    """Train and measure one recipe of a search on the validation split, unless its file misses a limit untrained.

    Args:
        recipe: The search's.
        settings: What is other in this trial, by its place in a recipe.
        targets: Whose files are measured; those of others are measured when a trial is taken.
        number: Which trial it is, from 1.
        search: The search's run in MLflow.
        share: Of the student's epochs, after which it waits for other trials, if its costs are known by then.
        known: Files of the untrained student, if it has waited before.

    """
    recipe = with_settings(recipe, settings)
    check(recipe, anew=False)
    tags = {NUMBER: str(number)}
    begun = newest({"mlflow.parentRunId": search, **tags})
    with compressing(recipe, "trial", tags=tags, parent=search, begun=begun) as run, machine_alone("search"):
        if not known and (says_exactly(recipe) or (share < 1 and says_nearly(recipe))):
            first, *_ = known = measured(untrained(recipe), targets)
            costs = {name: by for name, by in first.misses.items() if name in COST_LIMITS and by > MARGIN}
            if costs and says_exactly(recipe):
                return Outcome(how="rejected", files=known, run=run, why=f"untrained it misses {missed(costs)}")
        try:
            with pausing(share if known else 1):
                files = measured(recipe, targets)
        except Paused as paused:
            tracking.log_metrics(run, figures_so_far(known, paused.pause))
            return Outcome(how="paused", files=known, run=run, reached=paused.pause)
        tracking.log_metrics(run, figures_of(files))
        return Outcome(how="measured", files=files, run=run)


def measured(recipe: Recipe, targets: Sequence[Target]) -> tuple[Tried, ...]:
    """What would ship of a recipe for some targets, measured on the validation split."""
    made = make(recipe)
    last = list(made.models)[-1]
    auto = recipe.quantize.method == "auto"
    ways = list(made.models) if auto else list(dict.fromkeys(["teacher", last]))
    conversions = {name: made.conversions[name] for name in ways}
    files = files_of(recipe, made, ways, targets)
    choice = choose_files(conversions, files, made.data, recipe.validation, recipe.budget, recipe.seed)
    rows = open_choice(tracking.fetch(choice))
    return tuple(row for row in rows if (row.chosen if auto else row.route == last))


@flow(
    name="compress-found",
    flow_run_name=run_name.recipe,
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def take(recipe: Recipe, searched: Searched) -> Compression:
    """Compress by the recipe that a search has taken: its trial's stages are reused, and the test split is asked now.

    Args:
        recipe: The trial's.
        searched: What is said of the search in the evidence.

    """
    with compressing(recipe, parent=searched.run) as run, machine_alone("search"):
        return compressed(recipe, run, searched)
