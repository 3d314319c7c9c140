"""The first half of a compression, which trials of a search share: from a recipe to models, and files of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.recipe import Recipe
from flows.record import asked_for
from tasks.bring import bring_own
from tasks.contract.artifact import ModelArtifact, Role, Target
from tasks.convert import convert_model
from tasks.data import DataArtifact
from tasks.distill import distill_student
from tasks.prepare import prepare_data
from tasks.prune import prune_student
from tasks.quantization.conversion import Conversion
from tasks.quantize import conversion
from tasks.train import train_model


@dataclass(frozen=True)
class Made:
    """The models that there are.

    own: models that were brought, by role. conversions: what files are made of, by name, from the teacher on; the last
    one is the furthest.
    """

    data: DataArtifact
    own: dict[Role, ModelArtifact]
    conversions: dict[str, Conversion]

    @property
    def models(self) -> dict[str, ModelArtifact]:
        """The Keras models, by name."""
        return {name: each.model for name, each in self.conversions.items()}


@dataclass(frozen=True)
class Trained:
    """The models before anything makes them small. own: those that were brought, by role."""

    data: DataArtifact
    own: dict[Role, ModelArtifact]
    teacher: ModelArtifact
    student: ModelArtifact


def train(recipe: Recipe) -> Trained:
    """Train the teacher and the student; the teacher itself is the student where no other is named."""
    seed, training = recipe.seed, recipe.training
    data = prepare_data(recipe.data)
    own = {role: bring_own(role, model, data, recipe.door(role), seed) for role, model in recipe.own.items()}
    teacher = train_model("teacher", recipe.teacher, own.get("teacher"), data, recipe.teacher.fit, seed, training)
    if recipe.student.model == "teacher":
        student = teacher
    elif asked_for("distill", recipe.distill.method):
        student = distill_student(recipe.student, own.get("student"), teacher, data, recipe.distill, seed, training)
    else:
        taught = recipe.distill.fit
        student = train_model("student", recipe.student, own.get("student"), data, taught, seed, training)
    return Trained(data, own, teacher, student)


def make(recipe: Recipe) -> Made:
    """Train the teacher and the student, and make it small."""
    trained = train(recipe)
    data, teacher, student = trained.data, trained.teacher, trained.student
    seed, teaching, training = recipe.seed, recipe.distill.teaching, recipe.training
    pruned = student
    if asked_for("prune", recipe.prune.method):
        pruned = prune_student(student, teacher, data, recipe.prune, teaching, seed, recipe.goal, training)
    quantized = {}
    if asked_for("quantize", recipe.quantize.method):
        quantized = {
            route: conversion(pruned, teacher, data, config, teaching, seed)
            for route, config in recipe.quantize.routes().items()
        }
    return Made(data, trained.own, in_order(teacher, pruned, quantized))


Files = dict[str, dict[Target, ModelArtifact]]  # by the name of what they are made of, and by target


def files_of(recipe: Recipe, made: Made, names: Iterable[str], targets: Sequence[Target]) -> Files:
    """Files of some of the models, for some of the targets."""
    return {
        name: {
            target: convert_model(name, made.conversions[name], target, made.data, recipe.conversion)
            for target in targets
        }
        for name in names
    }


def in_order(teacher: ModelArtifact, pruned: ModelArtifact, quantized: dict[str, Conversion]) -> dict[str, Conversion]:
    """What files are made of, by name, from the teacher on; the student only where it is a model of its own."""
    student = {} if pruned == teacher else {"student": Conversion(model=pruned)}
    return {"teacher": Conversion(model=teacher), **student, **quantized}
