"""The recipes of tables and of texts: what they read, what is said of it, and that they keep their budgets."""

import pytest

from flows.check import check, plan
from flows.recipe_file import read_recipe
from flows.shipped import RECIPES

ABOUT = ("alarm", "cooking", "heating", "lights", "music", "phone", "reminder", "weather")
TABLES = {"breast-cancer": (("malignant", "benign"), (30,)), "diabetes": ((), (10,)), "requests": (ABOUT, (11,))}


@pytest.mark.parametrize("name", TABLES)
def test_it_can_run(name):
    data = check(read_recipe(RECIPES[name]))
    assert (data.classes, data.input.shape) == TABLES[name]


def test_what_is_decided_of_columns_stands_in_the_plan(tmp_path):
    lines = "".join(f"{n % 7},{'xyz'[n % 3]}{n % 2},{n % 2}\n" for n in range(400))
    (tmp_path / "d.csv").write_text("a,b,label\n" + lines)
    recipe = read_recipe(RECIPES["breast-cancer"], ["data.reader=table", f"data.source={tmp_path}/d.csv"])
    steps = plan(recipe, check(recipe))
    assert steps[0][0] == "prepare"
    assert steps[1] == ("", "Column `b` has 6 categories, an input each: x0, x1, y0, y1, z0, ….")


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_it_is_registered(name, store, prefect_server):
    from flows.compression import compress

    assert compress(read_recipe(RECIPES[name])).version == 1
