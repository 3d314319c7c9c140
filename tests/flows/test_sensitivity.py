"""A sensitivity analysis from the command line: the student is trained once, and the figures lie where people look."""

import json
import subprocess
import sys

import pytest
import yaml
from command_line import TINY, Slimline
from stores import home_at

from tasks.evidence.page import as_cell
from tasks.evidence.sensitivities import Sensitivity, as_rows

pytestmark = pytest.mark.slow  # the stage is measured in tests/test_sensitivity.py

RECIPE = {
    **TINY,
    "distill": {"method": "none", "fit": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01}},
    "sensitivity": {"bits": [4], "shares": [0.5], "examples": 100},
}


class Sensitive(Slimline):
    def measured(self) -> "subprocess.CompletedProcess[str]":
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE))
        command = [sys.executable, "-m", "flows.cli", "sensitivity", str(recipe), "seed=5", "--json"]
        return self.ended(command)


@pytest.fixture(scope="module")
def slimline(tmp_path_factory):
    return Sensitive(tmp_path_factory.mktemp("sensitivity"))


@pytest.fixture(scope="module")
def found(slimline) -> dict:
    done = slimline.measured()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout) | {"said": done.stderr}


@pytest.fixture
def store(slimline, found):
    with home_at(slimline.state) as state:
        yield state


def test_only_what_the_float_student_takes_is_made(found, store):
    from tasks.store import tracking

    runs = [run for run in tracking.every_run() if run.data.tags.get("mlflow.parentRunId") == found["mlflow_run"]]
    stages = {run.data.tags["slimline.stage"]: run for run in runs}
    assert set(stages) == {"prepare", "train-teacher", "train-student", "sensitivity"}
    measured = Sensitivity.model_validate(found["sensitivity"])
    figures = {f"{layer.layer}/{name}/change" for layer in measured.layers for name in layer.costs}
    assert "block1_conv/channels_50/change" in figures
    logged = stages["sensitivity"].data.metrics
    assert {name for name in logged if name.endswith("/change")} == figures
    costs = measured.layers[0].costs["weights_4"]
    assert logged["block1_conv/weights_4/change"] == costs.change
    assert logged["block1_conv/weights_4/drop"] == costs.drops[""].estimate


def test_the_table_is_on_the_terminal_and_on_the_page_of_the_run(found, store):
    from PIL import Image

    from tasks.store import tracking

    measured = Sensitivity.model_validate(found["sensitivity"])
    assert found["rows"] == as_rows(measured)
    first = found["rows"][0]
    assert f"{first['change']}   {first['drop of accuracy']}" in found["said"]
    assert "logits: not without 50% of channels: its channels are outputs" in found["said"]
    note = tracking.client().get_run(found["mlflow_run"]).data.tags["mlflow.note.content"]
    assert f"| {as_cell(first['layer'])} | {first['kind']} | {first['change']} |" in note
    folder = store / "artifacts" / found["mlflow_run"] / "artifacts"
    assert Sensitivity.model_validate_json((folder / "sensitivity.json").read_text()) == measured
    with Image.open(folder / "sensitivity.png") as plot:
        assert plot.size[0] > 1000
        assert len(plot.convert("RGB").getcolors(plot.size[0] * plot.size[1])) > 10


def test_typed_again_nothing_is_measured_anew(slimline, found):
    again = slimline.measured()
    assert again.returncode == 0
    assert "✓ sensitivity: reused" in again.stderr
    assert json.loads(again.stdout)["sensitivity"] == found["sensitivity"]
