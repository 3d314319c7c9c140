"""The story: a recipe becomes a registered model version, or a message that says which limit it did not keep."""

from prefect import flow

from flows import form, run_name
from flows.budget import hold
from flows.check import check
from flows.making import files_of, make
from flows.orphans import say_process
from flows.recipe import Recipe
from flows.recipe_file import RecipeName, RegisteredName, read_recipe
from flows.record import compressing
from flows.report import Compression, present, publish
from flows.shipped import RECIPES
from flows.turn import machine_alone
from tasks.contract.artifact import Target
from tasks.evidence.evidence import open_evidence
from tasks.evidence.searched import Searched
from tasks.register import register_version
from tasks.select import choose_files
from tasks.store import registry, tracking
from tasks.validate import validate_files
from tasks.versions.registered import sign_where_asked


@flow(
    name="compress",
    flow_run_name=run_name.recipe,
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def compress(recipe: Recipe) -> Compression:
    """Take a Keras model and a data set; end with a small registered version and evidence that it kept its accuracy.

    Args:
        recipe: The whole input: what is compressed, how, and the limits that a version must keep.

    """
    check(recipe)
    with compressing(recipe) as run, machine_alone("compress"):
        return compressed(recipe, run)


def compressed(recipe: Recipe, run: str, searched: Searched | None = None) -> Compression:
    """The story, inside the run in MLflow that it is told in; of a recipe that was `searched`, evidence says so."""
    made = make(recipe)
    models = made.models
    files = files_of(recipe, made, models, recipe.targets)
    choice = None
    if recipe.quantize.method == "auto":
        choice = choose_files(made.conversions, files, made.data, recipe.validation, recipe.budget, recipe.seed)
    shipped = choice.chosen if choice else dict.fromkeys(recipe.targets, list(models)[-1])
    brought = made.own.get("teacher") if not recipe.teacher.fit.epochs else None
    evidence = validate_files(
        models, files, shipped, choice, brought, made.data, recipe.validation, recipe.seed, searched
    )
    measured = open_evidence(tracking.fetch(evidence))
    hold(recipe.budget, recipe.teacher.floor, measured, lambda: present(recipe, run, evidence))
    version = register_version(
        recipe.registered_name,
        recipe.as_yaml(),
        {target: files[name][target] for target, name in shipped.items()},
        evidence,
        made.data,
        models,
        recipe.registration,
    )
    # after the stage, which is left out where the version is there: a recipe that is run again signs and names it
    sign_where_asked(version.uri)
    registry.set_alias(version.name, recipe.registration.alias, version.version)
    return publish(recipe, run, evidence, version)


@flow(
    name="compress-recipe",
    flow_run_name=run_name.form,
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def compress_recipe(
    recipe: RecipeName = "digits",
    name: RegisteredName = "",
    data: form.Data = form.Data(),  # noqa: B008  frozen
    teacher: form.Teacher = form.Teacher(),  # noqa: B008  frozen
    student: form.Student = form.Student(),  # noqa: B008  frozen
    method: form.Method = form.Method(),  # noqa: B008  frozen
    targets: tuple[Target, ...] = (),
    budget: form.Limits = form.Limits(),  # noqa: B008  frozen
    settings: tuple[str, ...] = (),
) -> Compression:
    """Compress by one of the recipes that lie in deployments/recipes; what is set here takes the place of what it has.

    Args:
        recipe: What is taken for all that is left empty below: a recipe of deployments/recipes, by its file's name.
        name: What the registered model is called: lower-case letters, digits, - and _. Empty takes the recipe's.
        data: What is trained and measured on.
        teacher: The accurate model.
        student: The small model that ships.
        method: What makes it small.
        targets: The runtimes that files are made for; the first one's file keeps the budget. None takes the recipe's.
        budget: The limits that a version must keep; 0 sets none.
        settings: Any other setting of a recipe, one a line, such as seed=5 or distill.temperature=2.

    """
    parts = {"name": name, "data": data, "teacher": teacher, "student": student, "method": method}
    lines = form.as_settings({**parts, "targets": targets, "budget": budget}, settings)
    chosen: Compression = compress.fn(read_recipe(RECIPES[recipe], lines))
    return chosen
