"""The recipe by which size and speed are known before a student is trained."""

import pytest

from flows.recipe_file import read_recipe
from flows.shipped import RECIPES
from flows.untrained import untrained

DIGITS = RECIPES["digits"]


def test_nothing_but_the_teacher_is_trained_and_one_file_is_made():
    recipe = read_recipe(DIGITS, ["validate.max_examples=500"])
    blank = untrained(recipe)
    assert blank is not None
    assert (blank.distill.method, blank.distill.fit.epochs) == ("none", 0)
    assert (blank.prune.method, blank.quantize.method) == ("none", "post_training")
    assert blank.targets == ("onnxruntime",)
    assert blank.validation.max_examples == 64
    assert (blank.teacher, blank.student, blank.data) == (recipe.teacher, recipe.student, recipe.data)
    assert blank.quantize.result == recipe.quantize.result == "int8", "as large as what would ship"


@pytest.mark.parametrize("precision", ["dynamic", "float16"])
def test_its_numbers_are_those_of_what_would_ship(precision):
    blank = untrained(read_recipe(DIGITS, ["quantize.method=post_training", f"quantize.precision={precision}"]))
    assert blank is not None
    assert blank.quantize.result == precision
    floats = untrained(read_recipe(DIGITS, ["quantize.method=none"]))
    assert floats is not None
    assert floats.quantize.result == "float32"


@pytest.mark.parametrize(
    "settings", [["prune.method=channels"], ["student.model=teacher", "distill.method=none", "prune.method=none"]]
)
def test_where_only_trained_weights_tell_there_is_none(settings):
    assert untrained(read_recipe(DIGITS, settings)) is None
