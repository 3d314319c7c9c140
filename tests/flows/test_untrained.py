"""The recipe by which size and speed are known before a student is trained."""

import pytest

from flows.recipe_file import read_recipe
from flows.shipped import RECIPES
from flows.untrained import says_exactly, says_nearly, untrained

DIGITS = RECIPES["digits"]


def test_nothing_but_the_teacher_is_trained():
    recipe = read_recipe(DIGITS, ["validate.max_examples=500"])
    blank = untrained(recipe)
    assert says_exactly(recipe)
    assert (blank.distill.method, blank.distill.fit.epochs) == ("none", 0)
    assert (blank.prune.method, blank.quantize.method) == ("none", "post_training")
    assert blank.validation.max_examples == 64
    assert (blank.teacher, blank.student, blank.data) == (recipe.teacher, recipe.student, recipe.data)
    assert blank.quantize.result == recipe.quantize.result == "int8", "as large as what would ship"


@pytest.mark.parametrize("precision", ["dynamic", "float16"])
def test_its_numbers_are_those_of_what_would_ship(precision):
    blank = untrained(read_recipe(DIGITS, ["quantize.method=post_training", f"quantize.precision={precision}"]))
    assert blank.quantize.result == precision
    floats = untrained(read_recipe(DIGITS, ["quantize.method=none"]))
    assert floats.quantize.result == "float32"


@pytest.mark.parametrize(
    "settings", [["prune.method=channels"], ["student.model=teacher", "distill.method=none", "prune.method=none"]]
)
def test_where_only_trained_weights_tell_it_says_nothing_exactly(settings):
    assert not says_exactly(read_recipe(DIGITS, settings))


def test_where_a_share_of_the_channels_goes_as_many_go_untrained_and_it_is_nearly_the_same():
    cut = ["prune.method=channels", "prune.channels.steps=2", "prune.then=magnitude"]
    recipe = read_recipe(DIGITS, [*cut, "prune.channels.of=channels", "prune.channels.remove=0.3"])
    assert says_nearly(recipe)
    blank = untrained(recipe).prune
    assert (blank.method, blank.then, blank.channels.remove, blank.channels.steps) == ("channels", "none", 0.3, 2)
    assert (blank.fit.epochs, blank.channels.fit.epochs) == (0, 0)
    assert not says_nearly(read_recipe(DIGITS, cut)), "cut to the budget, all are of one size"
