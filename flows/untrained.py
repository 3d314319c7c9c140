"""Size and speed of what would ship are known before a student is trained: the recipe of a file that is not."""

from flows.recipe import Recipe

FEW = 64  # examples for ranges and answers: the file is of the right shape, and says nothing right anyway


def untrained(recipe: Recipe) -> Recipe | None:
    """The recipe with a student that is not trained, for the first target alone; none where that would say nothing.

    It says nothing of the teacher itself as student, whose weights are there, nor where whole channels are removed,
    as those that matter least are only known of trained weights.
    """
    if recipe.student.model == "teacher" or recipe.prune.method == "channels":
        return None
    untaught = recipe.distill.model_copy(
        update={"method": "none", "fit": recipe.distill.fit.model_copy(update={"epochs": 0})}
    )
    method = "none" if recipe.quantize.method == "none" else "post_training"
    quick = recipe.quantize.model_copy(
        update={"method": method, "calibration": "minmax", "bias_correction": False, "calibration_examples": FEW}
    )
    return recipe.model_copy(
        update={
            "distill": untaught,
            "prune": recipe.prune.model_copy(update={"method": "none"}),  # zeros take as much room as other numbers
            "quantize": quick,
            "targets": recipe.targets[:1],
            "validation": recipe.validation.model_copy(update={"max_examples": FEW}),
        }
    )
