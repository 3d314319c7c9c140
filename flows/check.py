"""Is this recipe one that can run? Everything that can be known before the first stage is looked at here."""

from typing import Any

from flows.recipe import Recipe
from tasks.data import Dataset, open_data
from tasks.measuring.measure import measure_of
from tasks.training.devices import check_devices
from tasks.versions.signature import signer, signs
from tasks.zoo import check_model

FEW = 256  # examples that a metric is tried on


def check(recipe: Recipe, *, anew: bool = True) -> Dataset:
    """Open the data and hold both models against them; returns the data set.

    `anew` is as in `open_data`: a trial of a search learns from what the search has opened.

    Raises:
        InvalidInput: names the field, the value and what would be right.

    """
    check_devices(recipe.training)  # first: TensorFlow is asked once which devices there are
    if signs():
        signer()
    data = open_data(recipe.data, anew=anew)
    y = _few_targets(data)
    for head in data.heads:
        metric = recipe.validation.metric_of(head.name)
        measure_of(metric, head.problem, head.of(y), head.variance).guessing(len(head.classes))
    for role, model in recipe.models.items():
        check_model(model, data.input_shapes, data.heads, field=role)
    return data


def _few_targets(data: Dataset) -> Any:
    """Some targets, for which nothing is read again; a reconstruction's are its inputs."""
    if data.config.problem == "reconstruction":
        return data.sample("validation", FEW)[1]
    return data.targets["validation"][data.drawn("validation", FEW)]


def try_models(recipe: Recipe, data: Dataset) -> None:
    """Load and rebuild both models, make their files for every target untrained, and compare those: takes seconds.

    Raises:
        SlimlineError: what a run would end with; says what, and the way out.

    """
    from tasks.bring import bring, check_files
    from tasks.zoo import build_model

    for role, model in recipe.models.items():
        door = recipe.door(role)
        if model.brought:
            bring(model, data, role, door, recipe.seed)
        else:
            built = build_model(model, data, seed=recipe.seed, field=role)
            check_files(built, door.targets, door.precision, data, role)


def plan(recipe: Recipe, data: Dataset) -> list[tuple[str, str]]:
    """What a run would do, stage by stage, as (stage, in words); what is told of the data stands below their stage."""
    counts = ", ".join(f"{count:,} {split}" for split, count in data.counts.items())
    shapes = {name: "x".join(map(str, shape)) for name, shape in data.input_shapes.items()}
    shape = ", ".join(f"{name} {each}".strip() for name, each in shapes.items())
    left_out = (
        f"{data.duplicates} duplicates across splits left out" if data.duplicates else "no duplicates across splits"
    )
    fit, taught = recipe.teacher.fit, recipe.distill
    brought = [
        ("bring", f"{model.model}: asked as it came, and its files compared with that: {', '.join(recipe.targets)}")
        for model in recipe.own.values()
    ]
    steps = [
        (
            "prepare",
            f"{recipe.data.reader} {recipe.data.source}: {shape}, {counts} examples; {left_out}".replace(" :", ":"),
        ),
        *(("", note) for note in data.notes),
        *brought,
        (
            "teacher",
            f"{recipe.teacher.model} taken as it is"
            if fit.epochs == 0
            else f"{recipe.teacher.model}, at most {fit.epochs} epochs",
        ),
    ]
    if recipe.student.model == "teacher":
        later = "" if taught.method == "none" else f", and teaches by {taught.method} where it is cut and quantized"
        steps.append(("distill", f"left out: the teacher itself goes on{later}"))
    elif taught.method == "none":
        steps.append(("student", f"{recipe.student.model} trained from the labels, at most {taught.fit.epochs} epochs"))
    else:
        steps.append(("distill", f"{recipe.student.model} by {taught.method}, at most {taught.fit.epochs} epochs"))
    prune, quantize = recipe.prune, recipe.quantize
    steps += [
        ("prune", "left out" if prune.method == "none" else f"{prune.method}, {prune.fit.epochs} epochs"),
        ("quantize", ", ".join(quantize.routes()) or "left out"),
        ("convert", ", ".join(recipe.targets)),
        ("validate", f"{data.counts['test']:,} test examples, confidence {recipe.validation.confidence:g}"),
        ("register", f"{recipe.registered_name} as {recipe.registration.alias}, if the budget is kept"),
    ]
    return steps
