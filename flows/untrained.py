"""Size and speed of what would ship are known before a student is trained: the recipe of a file that is not."""

from flows.recipe import Recipe

FEW = 64  # examples for ranges and answers: the file is of the right shape, and says nothing right anyway


def says_exactly(recipe: Recipe) -> bool:
    """Whether the untrained file is as large and as fast as what would ship, and no training has gone before it.

    It is not where whole channels are removed, as those that matter least are only known of trained weights. The
    teacher itself as student has its weights already.
    """
    return recipe.student.model != "teacher" and recipe.prune.method != "channels"


def says_nearly(recipe: Recipe) -> bool:
    """Whether it is about as large and as fast: where a share of the channels is removed, as many of them are."""
    return recipe.prune.method != "channels" or recipe.prune.channels.of in ("channels", "macs")


def untrained(recipe: Recipe) -> Recipe:
    """The recipe with a student that is not trained."""
    untaught = recipe.distill.model_copy(
        update={"method": "none", "fit": recipe.distill.fit.model_copy(update={"epochs": 0})}
    )
    uncut = recipe.prune.model_copy(update={"method": "none"})  # zeros take as much room as other numbers
    if recipe.prune.method == "channels":
        between = recipe.prune.channels.fit.model_copy(update={"epochs": 0})
        channels = recipe.prune.channels.model_copy(update={"fit": between})
        fit = recipe.prune.fit.model_copy(update={"epochs": 0})
        uncut = recipe.prune.model_copy(update={"channels": channels, "then": "none", "fit": fit})
    method = "none" if recipe.quantize.method == "none" else "post_training"
    quick = recipe.quantize.model_copy(
        update={"method": method, "calibration": "minmax", "bias_correction": False, "calibration_examples": FEW}
    )
    return recipe.model_copy(
        update={
            "distill": untaught,
            "prune": uncut,
            "quantize": quick,
            "validation": recipe.validation.model_copy(update={"max_examples": FEW}),
        }
    )
