"""A search from the command line: killed in its middle it goes on; what cannot keep the budget is not trained."""

import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest
import yaml
from command_line import ROOT, TINY, Slimline, kill_at, started
from stores import home_at

from tasks.evidence.evidence import open_evidence

SPACE = {
    "trials": 5,
    "batch": 2,
    "first": 2,
    "settings": {"student.width": {"low": 0.2, "high": 1.0, "log": True}, "quantize.method": ["post_training"]},
}
RECIPE = {
    **TINY,
    "distill": {"method": "soft_targets", "fit": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01}},
    "prune": {"method": "none"},
    "quantize": {"method": "post_training", "calibration_examples": 64},
    "targets": ["onnxruntime", "litert"],
    "budget": {"max_accuracy_drop": 1.0, "min_size_ratio": 2.2},
}


class Search(Slimline):
    def search(self, *options: str) -> list[str]:
        for name, content in (("recipe.yaml", RECIPE), ("space.yaml", SPACE)):
            (self.folder / name).write_text(yaml.safe_dump(content))
        files = [str(self.folder / name) for name in ("recipe.yaml", "space.yaml")]
        return [sys.executable, "-m", "flows.cli", "search", *files, "--json", *options]

    def searched(self, *options: str) -> "subprocess.CompletedProcess[str]":
        return self.ended(self.search(*options))


@pytest.fixture(scope="module")
def slimline(tmp_path_factory):
    return Search(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def found(slimline) -> dict:
    """Killed while its third trial is trained, and typed again."""
    process = started(slimline.search(), slimline.environment)
    kill_at(process, "search: trial 2 of 5")
    process = started(slimline.search(), slimline.environment)
    kill_at(process, r"epoch \d/3|convert-static", later=0.5)
    done = slimline.searched()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout) | {"said": done.stderr}


@pytest.fixture
def store(slimline, found):
    with home_at(slimline.state) as state:
        yield state


def runs(store) -> list[tuple[str, str, dict]]:
    """Of MLflow: each run's id, status and tags."""
    with sqlite3.connect(store / "mlflow.db") as database:
        states = dict(database.execute("select run_uuid, status from runs"))
        tags: dict[str, dict] = {run: {} for run in states}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            tags[run][key] = value
    return [(run, status, tags[run]) for run, status in states.items()]


def test_no_trial_is_lost_or_made_twice(found, store):
    told = [int(row["trial"].rstrip(" *")) for row in found["trials"]]
    assert sorted(told) == [1, 2, 3, 4, 5]
    assert not re.search(r"search: trial [12] of 5", found["said"]), "they were told before it was killed"
    searches = [(run, status) for run, status, tags in runs(store) if tags.get("slimline.role") == "search"]
    assert searches == [(found["mlflow_run"], "FINISHED")], "one search, one run"
    trials = [(tags, status) for _, status, tags in runs(store) if tags.get("slimline.role") == "trial"]
    assert sorted(tags["slimline.trial"] for tags, _ in trials) == ["1", "2", "3", "4", "5"]
    assert {tags["mlflow.parentRunId"] for tags, _ in trials} == {found["mlflow_run"]}
    assert {status for _, status in trials} == {"FINISHED"}
    teachers = [tags for _, status, tags in runs(store) if tags.get("slimline.stage") == "train-teacher"]
    assert len(teachers) <= 2, "one for all; at most a killed one beside it"


def test_what_cannot_keep_the_budget_is_not_trained(found, store):
    rejected = {row["trial"]: row for row in found["trials"] if "untrained" in row["budget"]}
    assert 1 <= len(rejected) <= 4
    assert found["search"]["trained"] == 5 - len(rejected)
    for row in rejected.values():
        assert "misses budget.min_size_ratio by" in row["budget"]
        assert row["drop (interval)"] == ""
    of_trials = {tags["slimline.trial"]: run for run, _, tags in runs(store) if tags.get("slimline.role") == "trial"}
    for number, run in of_trials.items():
        stages = {tags["slimline.stage"] for _, _, tags in runs(store) if tags.get("mlflow.parentRunId") == run}
        assert ("distill" in stages) == (number not in rejected)


def test_the_one_that_is_taken_is_of_those_inside_and_says_how_it_was_found(found, store):
    from tasks.store import tracking
    from tasks.store.registry import version_of

    (star,) = [row for row in found["trials"] if row["trial"].endswith("*")]
    assert star["trial"] == f"{found['trial']} *"
    assert star["budget"] == "inside"
    costs = {
        row["trial"]: float(row["size"].split()[0].replace(",", "")) / float(row["speed-up"].rstrip("x"))
        for row in found["trials"]
        if row["budget"] == "inside"
    }
    assert min(costs, key=costs.__getitem__) == star["trial"]
    version = version_of("tiny", "candidate")
    assert version is not None
    assert version.uri == found["compression"]["uri"]
    evidence = open_evidence(tracking.download(version.uri) / "evidence")
    assert evidence.searched is not None
    assert evidence.searched.model_dump() == found["search"]
    assert "asked about no other one" in evidence.methods["search"]
    recipe = yaml.safe_load((tracking.download(version.uri) / "recipe.yaml").read_text())
    assert recipe["student"]["width"] == found["settings"]["student.width"]
    card = (tracking.download(version.uri) / "README.md").read_text()
    assert f"a search of 5 trials](http://127.0.0.1:5000/#/experiments/1/runs/{found['mlflow_run']}" in card


def test_the_test_split_was_asked_about_one_trial_alone(found, store):
    validated = [tags for _, _, tags in runs(store) if tags.get("slimline.stage") == "validate"]
    assert len(validated) == 1
    assert validated[0]["mlflow.parentRunId"] == found["compression"]["mlflow_run"]


def test_the_search_s_page_has_the_table_the_plot_and_the_version(found, store):
    from PIL import Image

    (tags,) = [tags for run, _, tags in runs(store) if run == found["mlflow_run"]]
    note = tags["mlflow.note.content"]
    assert f"[{found['compression']['uri']}](http" in note
    assert f"| {found['trial']} \\* |" in note
    folder = store / "artifacts" / found["mlflow_run"] / "artifacts"
    kept = json.loads((folder / "trials.json").read_text())
    assert [trial["number"] for trial in kept] == [1, 2, 3, 4, 5]
    with Image.open(folder / "front.png") as plot:
        assert plot.size[0] > 1000
        assert len(plot.convert("RGB").getcolors(plot.size[0] * plot.size[1])) > 10


@pytest.mark.slow
def test_typed_again_nothing_is_tried_anew(slimline, found):
    again = slimline.searched()
    assert again.returncode == 0
    assert "search: trial" not in again.stderr
    assert "✓ validate: reused" in again.stderr


def test_where_nothing_is_inside_the_nearest_is_named(slimline, found):
    done = slimline.searched("--trials", "2", "budget.min_size_ratio=50")
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "none of 2 trials is inside the budget; trial" in said
    assert "is the nearest, and misses budget.min_size_ratio by" in said
    assert "Traceback" not in said


def test_a_trial_that_is_refused_ends_no_search_and_says_why(slimline):
    command = slimline.search("--trials", "1")
    (slimline.folder / "space.yaml").write_text(yaml.safe_dump({"settings": {"student.model": ["mobilenet"]}}))
    environment = slimline.environment | {"SLIMLINE_HOME": str(slimline.folder / "refused")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert re.search(r"trial 1 of 1, .*: refused: student\.model: 'mobilenet': ", said)
    assert "none of 1 trials could be made; the first one: student.model: 'mobilenet': " in said


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"settings": {"student.widht": [1]}}, "a recipe has no such setting; near it are student.width"),
        ({"settings": {"seed": [1]}, "goals": ["savedmodel/size"]}, "targets of the recipe are: onnxruntime, litert"),
    ],
)
def test_a_space_of_another_recipe_is_refused_before_anything_runs(slimline, space, message):
    command = slimline.search()
    (slimline.folder / "space.yaml").write_text(yaml.safe_dump(space))
    process = started(command, slimline.environment | {"SLIMLINE_HOME": str(slimline.folder / os.urandom(4).hex())})
    assert message in " ".join(process.stderr.read().split())
    assert process.wait() == 2
