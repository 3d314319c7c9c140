"""The story: a recipe becomes a registered model version, or a message that says which limit it did not keep."""

from prefect import flow

from flows.budget import hold
from flows.check import check
from flows.recipe import Recipe
from flows.record import recorded, wanted
from flows.report import Compression, publish
from tasks import tracking
from tasks.artifact import ModelArtifact, Role
from tasks.convert import convert_model
from tasks.distill import distill_student
from tasks.evidence import open_evidence
from tasks.prepare import prepare_data
from tasks.prune import prune_student
from tasks.quantize import quantize_student
from tasks.register import register_version
from tasks.train import train_model
from tasks.validate import validate_files


@flow(name="compress", flow_run_name="{recipe.name}", persist_result=True, result_serializer="json")
def compress(recipe: Recipe) -> Compression:
    """Take a Keras model and a data set; end with a small registered version and evidence that it kept its accuracy."""
    check(recipe)
    with recorded(recipe) as run:
        seed, data, teaching = recipe.seed, recipe.data, recipe.distill.teaching
        prepared = prepare_data(data)
        teacher = train_model("teacher", recipe.teacher, data, recipe.teacher.fit, seed)
        if recipe.student.model == "teacher":
            student = teacher
        elif wanted("distill", recipe.distill.method):
            student = distill_student(recipe.student, teacher, data, recipe.distill, seed)
        else:
            student = train_model("student", recipe.student, data, recipe.distill.fit, seed)
        pruned = compressed = student
        if wanted("prune", recipe.prune.method):
            pruned = compressed = prune_student(student, teacher, data, recipe.prune, teaching, seed)
        if wanted("quantize", recipe.quantize.method):
            compressed = quantize_student(pruned, teacher, data, recipe.quantize, teaching, seed)
        models = distinct(teacher, pruned, compressed)
        files = {
            role: {target: convert_model(role, model, target, data) for target in recipe.targets}
            for role, model in models.items()
        }
        evidence = validate_files(models, files, data, recipe.validation, seed)
        hold(recipe.budget, open_evidence(tracking.fetch(evidence)), tracking.ui_url(evidence.run))
        version = register_version(
            recipe.registered_name,
            recipe.as_yaml(),
            files["compressed"],
            evidence,
            prepared,
            data,
            models,
            recipe.registration,
        )
        return publish(recipe, run, evidence, version)


def distinct(teacher: ModelArtifact, student: ModelArtifact, compressed: ModelArtifact) -> dict[Role, ModelArtifact]:
    """The models to measure by role; the student only where it is a model of its own."""
    models: dict[Role, ModelArtifact] = {"teacher": teacher}
    if student not in (teacher, compressed):
        models["student"] = student
    return {**models, "compressed": compressed}
