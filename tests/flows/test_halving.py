"""A search that halves, from the command line: killed at its rungs it goes on, and nothing is trained twice."""

import json
import sqlite3
import sys

import pytest
import yaml
from command_line import TINY, Slimline, kill_at, started

pytestmark = pytest.mark.slow

RECIPE = {
    **TINY,
    "teacher": {"model": "mlp", "width": 0.5, "fit": {"epochs": 4, "batch_size": 32, "learning_rate": 0.005}},
    "student": {"model": "mlp", "width": 0.25},
    "distill": {"method": "soft_targets", "fit": {"epochs": 6, "batch_size": 32, "learning_rate": 0.005}},
    "prune": {"method": "none", "fit": {"epochs": 2, "batch_size": 32}},
    "quantize": {"method": "post_training", "calibration_examples": 64},
    "targets": ["onnxruntime"],
}
SPACE = {
    "trials": 4,
    "batch": 4,
    "rungs": [0.17, 0.5],
    "reduction_factor": 2,
    "settings": {
        "student.width": {"low": 0.2, "high": 1.0, "log": True},
        "prune.method": ["none", "channels"],
        "prune.channels.of": {"values": ["channels"], "when": {"prune.method": "channels"}},
    },
}


@pytest.fixture(scope="module")
def slimline(tmp_path_factory):
    return Slimline(tmp_path_factory.mktemp("halving"))


@pytest.fixture(scope="module")
def found(slimline) -> dict:
    """Killed before the first rung's decision, and in the training that follows it; and typed again."""
    for name, content in (("recipe.yaml", RECIPE), ("space.yaml", SPACE)):
        (slimline.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
    files = [str(slimline.folder / name) for name in ("recipe.yaml", "space.yaml")]
    command = [sys.executable, "-m", "flows.cli", "search", *files, "--json"]
    kill_at(started(command, slimline.environment), r"trial 3 of 4, .*waits")
    kill_at(started(command, slimline.environment), r"trial \d of 4, .*stopped", later=3)
    done = slimline.ended(command)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def runs(slimline) -> dict[str, tuple[str, dict[str, str], dict[str, float]]]:
    """Of MLflow, by id: each run's status, tags and metrics."""
    with sqlite3.connect(slimline.state / "mlflow.db") as database:
        found = {run: (status, {}, {}) for run, status in database.execute("select run_uuid, status from runs")}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            found[run][1][key] = value
        for run, key, value in database.execute("select run_uuid, key, value from latest_metrics"):
            found[run][2][key] = value
    return found


def test_each_trial_is_told_once_and_those_that_were_stopped_say_how_far_they_came(slimline, found):
    rows = {int(row["trial"].rstrip(" *")): row for row in found["trials"]}
    assert sorted(rows) == [1, 2, 3, 4]
    assert (found["search"]["trained"], found["search"]["stopped"]) == (1, 3)
    trials = {
        int(tags["slimline.trial"]): (status, tags, metrics)
        for status, tags, metrics in runs(slimline).values()
        if tags.get("slimline.role") == "trial"
    }
    assert sorted(trials) == [1, 2, 3, 4]
    stopped = {number: row for number, row in rows.items() if number != found["trial"]}
    assert sorted(row["epochs"] for row in stopped.values()) == ["1/6", "1/6", "3/6"]
    for number, row in stopped.items():
        status, tags, metrics = trials[number]
        assert status == "FINISHED"
        assert tags["slimline.stopped"] == row["budget"]
        assert f"{metrics['rung_epochs']:.0f}/6" == row["epochs"]
    assert rows[found["trial"]]["epochs"] == ""


def test_a_pause_is_no_failure_in_mlflow_or_in_prefect(slimline, found):
    assert {status for status, _, _ in runs(slimline).values()} <= {"FINISHED", "KILLED"}
    with sqlite3.connect(slimline.state / "prefect" / "prefect.db") as database:
        flows = database.execute("select name, state_name from flow_run").fetchall()
        tasks = {name for (name,) in database.execute("select state_name from task_run")}
    assert {state for name, state in flows if name.startswith("trial")} <= {"Completed", "Crashed"}
    assert [state for name, state in flows if name.startswith("trial")].count("Crashed") <= 2, "those that were killed"
    assert "Paused" in tasks
    assert "Failed" not in tasks


def test_the_test_split_was_asked_once(slimline, found):
    stages = [(status, tags) for status, tags, _ in runs(slimline).values() if tags.get("slimline.stage") == "validate"]
    assert [status for status, _ in stages] == ["FINISHED"]
    assert stages[0][1]["mlflow.parentRunId"] == found["compression"]["mlflow_run"]
