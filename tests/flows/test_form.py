"""The forms that Prefect's UI draws: what is in them, and what comes of what a person sets there."""

import os
import subprocess
import sys
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from flows import form
from flows.deployed import compress, compress_recipe
from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from flows.run_name import changes, in_words, named
from flows.shipped import DEPLOYMENTS, RECIPES, ROOT

GROUPS = {
    "data": form.Data,
    "teacher": form.Teacher,
    "student": form.Student,
    "method": form.Method,
    "budget": form.Limits,
}
FIELDS = [(group, name) for group, part in GROUPS.items() for name in part.model_fields]
DRAWN = {"position", "title", "default"}  # how a form shows a field, and not what it may hold


def drawn(flow: Any) -> dict[str, Any]:
    return parameter_schema(flow.fn).model_dump()


def setting(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """The schema of a recipe's setting."""
    at = schema
    for name in place.split("."):
        at = at["properties"][name]
        if "$ref" in at:
            at = schema["$defs"][at["$ref"].rpartition("/")[2]]
    return at


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_each_field_is_the_recipe_s_own(group, name):
    place = form.PLACES.get(f"{group}.{name}", f"{group}.{name}")
    ours = GROUPS[group].model_json_schema()["properties"][name]
    recipes = setting(Recipe.model_json_schema(), place)
    assert {key: value for key, value in ours.items() if key not in DRAWN} == {
        key: value for key, value in recipes.items() if key not in DRAWN
    }


def test_prefect_s_ui_can_draw_the_form():
    """It draws a field that may be null as two, and fills in a default of null."""
    schema = drawn(compress_recipe)
    groups = [schema, *schema["definitions"].values()]
    fields = [field for group in groups for field in group["properties"].values()]
    assert len(fields) < 35
    assert not [field for field in fields if "anyOf" in field]
    assert None not in [value for field in fields for value in _leaves(field.get("default", ""))]
    assert schema["required"] == []


def _leaves(value: Any) -> list[Any]:
    return [leaf for each in value.values() for leaf in _leaves(each)] if isinstance(value, dict) else [value]


@pytest.mark.parametrize("flow", [compress, compress_recipe], ids=["every setting", "what decides"])
def test_groups_are_called_as_what_they_are(flow):
    schema = drawn(flow)
    for name, group in schema["definitions"].items():
        titles = [
            field.get("title") or schema["definitions"][field["$ref"].rpartition("/")[2]]["title"]
            for field in group["properties"].values()
        ]
        assert not [title for title in titles if title.endswith("Config")], name
        assert len(set(titles)) == len(titles), name
    fits = [
        group["properties"]["fit"].get("title", "")
        for group in schema["definitions"].values()
        if "fit" in group["properties"]
    ]
    assert len(set(fits)) == len(fits), "trainings that are called the same"


def test_what_stays_empty_is_as_the_recipe_has_it():
    empty = {group: part() for group, part in GROUPS.items()}
    assert form.as_settings({**empty, "name": "", "targets": ()}, []) == []
    assert form.as_settings({"data": form.Data(source="")}, []) == []


def test_what_is_set_takes_the_place_of_the_recipe_s_and_lines_win():
    parts = {
        "name": "flowers",
        "data": form.Data(reader="npz", source="x: 1.npz"),
        "teacher": form.Teacher(epochs=3),
        "student": form.Student(width=0.5),
        "method": form.Method(quantize="post_training"),
        "targets": ("litert",),
        "budget": form.Limits(min_size_ratio=0),
    }
    recipe = read_recipe(RECIPES["digits"], form.as_settings(parts, ["student.width=0.25", "seed=5"]))
    assert (recipe.name, recipe.seed, recipe.targets) == ("flowers", 5, ("litert",))
    assert (recipe.data.reader, recipe.data.source) == ("npz", "x: 1.npz"), "as text, whatever YAML would make of it"
    assert (recipe.teacher.fit.epochs, recipe.teacher.width) == (3, 3.0)
    assert recipe.student.width == 0.25
    assert (recipe.quantize.method, recipe.distill.method) == ("post_training", "soft_targets")
    assert (recipe.budget.min_size_ratio, recipe.budget.max_accuracy_drop) == (0, 0.02), (
        "0 is a limit that is set: none"
    )


def test_a_form_that_is_submitted_as_it_stands_compresses_well():
    """Whichever it is: the recipe digits, which all of 20 seeds keep the budget of, and not an uncompressed model."""
    deployments = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    digits = read_recipe(RECIPES["digits"])
    forms = [each for each in deployments if "compress" in each["entrypoint"]]
    assert len(forms) == 3
    for deployment in forms:
        if deployment["entrypoint"] == "flows.deployed.compress":
            assert Recipe(**deployment["parameters"]["recipe"]) == digits, deployment["name"]
        else:
            assert deployment["parameters"] == {"recipe": "digits"}
    assert digits.quantize.method != "none"


def test_runs_are_called_by_what_was_set():
    settings = form.choices({"name": "", "teacher": form.Teacher(epochs=8), "targets": ("litert", "onnxruntime")})
    name = named("digits", [*in_words(settings), "seed=5"])
    assert name == "digits: teacher.fit.epochs=8, targets=litert,onnxruntime, seed=5"
    assert named("digits", []) == "digits"
    assert len(named("digits", ["x" * 500])) == 100
    usual = Recipe(name="flowers")
    changed = Recipe(name="flowers", student={"model": "resnet8"}, targets=["litert"])
    assert in_words(dict(changes(usual.model_dump(), changed.model_dump()))) == [
        "student.model=resnet8",
        "targets=litert",
    ]


def test_recipes_of_ones_own_are_called_by_their_names_too(tmp_path):
    (tmp_path / "flowers.yaml").write_text("name: flowers")
    script = "from flows.shipped import RECIPES; print(*RECIPES)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "SLIMLINE_RECIPES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {*RECIPES, "flowers"}
