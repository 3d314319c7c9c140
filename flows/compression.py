"""The story: a recipe becomes a registered model version, or a message that says which limit it did not keep."""

from prefect import flow

from flows.budget import hold
from flows.check import check
from flows.recipe import Recipe
from flows.recipe_file import RecipeName, read_recipe
from flows.record import asked_for, compressing
from flows.report import Compression, present, publish
from flows.shipped import RECIPES
from flows.turn import machine_alone
from tasks.bring import bring_own
from tasks.contract.artifact import ModelArtifact
from tasks.convert import convert_model
from tasks.distill import distill_student
from tasks.evidence.evidence import open_evidence
from tasks.prepare import prepare_data
from tasks.prune import prune_student
from tasks.quantization.conversion import Conversion
from tasks.quantize import conversion
from tasks.register import register_version
from tasks.select import choose_files
from tasks.store import registry, tracking
from tasks.train import train_model
from tasks.validate import validate_files


@flow(name="compress", flow_run_name="{recipe.name}", persist_result=True, result_serializer="json")
def compress(recipe: Recipe) -> Compression:
    """Take a Keras model and a data set; end with a small registered version and evidence that it kept its accuracy.

    Args:
        recipe: The whole input: what is compressed, how, and the limits that a version must keep.

    """
    check(recipe)
    with compressing(recipe) as run, machine_alone("compress"):
        seed, teaching, budget = recipe.seed, recipe.distill.teaching, recipe.budget
        data = prepare_data(recipe.data)
        own = {role: bring_own(role, model, data, recipe.door(role), seed) for role, model in recipe.own.items()}
        teacher = train_model("teacher", recipe.teacher, own.get("teacher"), data, recipe.teacher.fit, seed)
        if recipe.student.model == "teacher":
            student = teacher
        elif asked_for("distill", recipe.distill.method):
            student = distill_student(recipe.student, own.get("student"), teacher, data, recipe.distill, seed)
        else:
            student = train_model("student", recipe.student, own.get("student"), data, recipe.distill.fit, seed)
        pruned = student
        if asked_for("prune", recipe.prune.method):
            pruned = prune_student(student, teacher, data, recipe.prune, teaching, seed, recipe.goal)
        quantized = {}
        if asked_for("quantize", recipe.quantize.method):
            quantized = {
                route: conversion(pruned, teacher, data, config, teaching, seed)
                for route, config in recipe.quantize.routes().items()
            }
        conversions = in_order(teacher, pruned, quantized)
        models = {name: each.model for name, each in conversions.items()}
        files = {
            name: {target: convert_model(name, each, target, data, recipe.conversion) for target in recipe.targets}
            for name, each in conversions.items()
        }
        choice = None
        if recipe.quantize.method == "auto":
            drop, share, everywhere = budget.max_accuracy_drop, budget.min_integer_share, budget.every_processor
            choice = choose_files(conversions, files, data, recipe.validation, drop, share, everywhere, seed)
        shipped = choice.chosen if choice else dict.fromkeys(recipe.targets, list(models)[-1])
        reference = own.get("teacher") if not recipe.teacher.fit.epochs else None
        evidence = validate_files(models, files, shipped, choice, reference, data, recipe.validation, seed)
        measured = open_evidence(tracking.fetch(evidence))
        hold(budget, recipe.teacher.floor, measured, lambda: present(recipe, run, evidence))
        version = register_version(
            recipe.registered_name,
            recipe.as_yaml(),
            {target: files[name][target] for target, name in shipped.items()},
            evidence,
            data,
            models,
            recipe.registration,
        )
        # after the stage, which is left out where the version is there: a recipe that is run again names it anew
        registry.set_alias(version.name, recipe.registration.alias, version.version)
        return publish(recipe, run, evidence, version)


@flow(name="compress-recipe", flow_run_name="{recipe}", persist_result=True, result_serializer="json")
def compress_recipe(recipe: RecipeName = "digits", settings: list[str] = []) -> Compression:  # noqa: B006  only read
    """Compress by one of the recipes that lie in deployments/recipes.

    Args:
        recipe: Which one, by its file's name.
        settings: What is to be different from the file, such as student.width=0.5: one setting a line.

    """
    chosen: Compression = compress.fn(read_recipe(RECIPES[recipe], settings))
    return chosen


def in_order(teacher: ModelArtifact, pruned: ModelArtifact, quantized: dict[str, Conversion]) -> dict[str, Conversion]:
    """What files are made of, by name, from the teacher on; the student only where it is a model of its own."""
    student = {} if pruned == teacher else {"student": Conversion(model=pruned)}
    return {"teacher": Conversion(model=teacher), **student, **quantized}
