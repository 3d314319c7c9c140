"""What the pages say is so: every error is explained, every setting is one, and every recipe can be checked."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pages import PAGES, ROOT, blocks, commands

from flows.check import check, try_models
from flows.monitor import Watch
from flows.recipe import Recipe
from flows.recipe_file import check_settings, checked, read_recipe, with_overrides
from tasks.bundles.client import TrialConfig
from tasks.bundles.contents import BundleConfig
from tasks.contract.problem import Problem
from tasks.data import READERS
from tasks.data.new import NewDataConfig
from tasks.drift.limits import MonitorConfig

DOCS = ROOT / "docs"
RECIPES = [
    (page, block.file)
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and block.text.startswith("name:") and block.file
]


def errors() -> set[str]:
    """Every class below flows/ and tasks/ that is a `SlimlineError`."""
    source = "\n".join(file.read_text() for folder in ("flows", "tasks") for file in (ROOT / folder).rglob("*.py"))
    parents = dict(re.findall(r"^class (\w+)\((\w+)\):", source, re.MULTILINE))
    found = {"SlimlineError"}
    while more := {name for name, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def test_every_error_is_explained_and_none_that_is_not():
    explained = re.findall(r"^### (\w+)$", (DOCS / "failures.md").read_text(), re.MULTILINE)
    assert len(errors()) > 20
    assert sorted([*explained, "InvalidInput"]) == sorted(errors())
    assert "`InvalidInput`" in (DOCS / "failures.md").read_text()


def settings(model: type, path: str) -> set[str]:
    """Every dotted name of a model's settings, and of the groups that they are in."""
    found = {path}
    for name, field in model.model_fields.items():
        dotted = f"{path}.{field.alias or name}"
        found |= settings(field.annotation, dotted) if hasattr(field.annotation, "model_fields") else {dotted}
    return found


def test_every_setting_that_a_page_names_is_one():
    known = {name.removeprefix("recipe.") for name in settings(Recipe, "recipe")}
    beside = {"data": NewDataConfig, "config": MonitorConfig, "bundle": BundleConfig, "trial": TrialConfig}
    for name, model in beside.items():
        known |= settings(model, name)
    groups = {name.split(".")[0] for name in known}
    named = 0
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", page.read_text()):
            for name in re.findall(r"(?<![\w./:@])[a-z_]+(?:\.[a-z_]+)+(?![\w(/])", code):
                if name.split(".")[0] in groups and not name.endswith((".yaml", ".json", ".npz")):
                    named += 1
                    assert name in known, f"{page.name}: {name}"
    assert named > 50


def test_what_is_set_on_command_lines_can_be_set():
    for page in PAGES:
        for name, *words in commands(page, "slimline"):
            overrides = [word for word in words if "=" in word and not word.startswith("-")]
            if name in ("run", "check", "sensitivity"):
                check_settings(with_overrides({"name": "any"}, overrides))
            elif name == "monitor":
                checked(Watch, with_overrides({}, overrides))


def test_make_knows_every_target_that_is_named():
    pages = "\n".join(page.read_text() for page in (*PAGES, ROOT / "CONTRIBUTING.md"))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", pages, re.MULTILINE))
    assert {"run", "test", "docs", "bench", "up"} <= named
    for target in named:
        plan = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert plan.returncode == 0, f"make {target}: {plan.stderr}"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """For a page, a folder with its files, in which its programs have run."""
    folders: dict[Path, Path] = {}

    def write(page: Path) -> Path:
        if page in folders:
            return folders[page]
        folder = folders[page] = tmp_path_factory.mktemp(page.stem)
        for block in blocks(page):
            if block.file:
                (folder / block.file).write_text(block.text)
            if block.file.startswith("make_"):
                done = subprocess.run([sys.executable, block.file], cwd=folder, capture_output=True, text=True)
                assert done.returncode == 0, f"{page.name}, {block.file}: {done.stderr}"
        return folder

    return write


@pytest.mark.parametrize(("page", "file"), RECIPES, ids=[f"{page.stem}-{file}" for page, file in RECIPES])
def test_a_recipe_can_be_checked(page, file, written, monkeypatch):
    """Its data are read, and its models held against them; models of one's own are asked, and their files made."""
    monkeypatch.chdir(written(page))
    for module in ("mydata", "mymodels"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    recipe = read_recipe(Path(file))
    data = check(recipe)
    assert min(data.counts.values()) > 0
    if recipe.own:
        try_models(recipe, data)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "file"), RECIPES, ids=[f"{page.stem}-{file}" for page, file in RECIPES])
def test_a_recipe_can_be_run(page, file, written, monkeypatch, store, prefect_server):
    """From its data to a registered version, inside the budget that the page has."""
    from flows.compression import compress

    monkeypatch.chdir(written(page))
    for module in ("mydata", "mymodels"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert compress(read_recipe(Path(file))).version == 1


def test_the_pages_have_recipes_for_every_reader_and_problem():
    found = [read_recipe_text(page, file) for page, file in RECIPES]
    assert {recipe.data.reader for recipe in found} == {*READERS} - {"keras", "huggingface", "tfds"}, "these download"
    assert {recipe.data.problem for recipe in found} == {*get_args(Problem)}


def read_recipe_text(page: Path, file: str) -> Recipe:
    return check_settings(yaml.safe_load(next(block.text for block in blocks(page) if block.file == file)))
