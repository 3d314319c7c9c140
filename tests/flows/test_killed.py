"""`kill -9` at any point, and the same command again."""

import json
from pathlib import Path

import pytest
from command_line import TINY, Slimline, kill_at
from mlflow import MlflowClient

from tasks.contract.artifact import digest_folder


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path):
    other = Slimline(tmp_path)
    longer = ("distill.fit.epochs=40", "distill.fit.patience=0", "targets=[onnxruntime]")
    kill_at(other.start(TINY, *longer), r"epoch ([6-9]|[123]\d)/40")
    result = other.result(TINY, *longer)
    assert {"prepare", "train-teacher"} <= set(result["reused"])
    client = MlflowClient(f"sqlite:///{other.state / 'mlflow.db'}")
    (interrupted,) = client.search_runs(["1"], "attributes.run_name = 'distill' and attributes.status != 'FINISHED'")
    before = [point.value for point in client.get_metric_history(interrupted.info.run_id, "seconds")]
    after = [point.value for point in client.get_metric_history(result["runs"]["distill"], "seconds")]
    assert 5 <= len(before) < 40  # an epoch is shown a moment before it is logged
    assert len(after) == 40
    assert after[: len(before) - 1] == before[:-1], "epochs that were over were not trained again"
    assert not list((other.state / "checkpoints").iterdir()), "a finished training leaves no checkpoint"


@pytest.mark.slow
def test_killed_in_every_stage_one_after_the_other(tmp_path):
    """Eight runs: each goes on behind what the ones before it have finished, until it is killed a stage later."""
    tiny = Slimline(tmp_path)
    stages = ("train-teacher", "distill", "prune", "quantize-training", "convert-teacher-onnxruntime", "validate")
    done: list[str] = []
    for later, stage in enumerate(stages):
        kill_at(tiny.start(TINY), rf"^  {stage} \u2026", later=0.2 * (later % 3))
        client = MlflowClient(f"sqlite:///{tiny.state / 'mlflow.db'}")
        runs = client.search_runs(["1"], "tags.`slimline.role` = 'stage' and attributes.status = 'FINISHED'")
        names = [run.info.run_name for run in runs]
        assert len(names) == len(set(names)), "what was finished is not made a second time"
        assert stage not in names
        assert set(done) <= set(names)
        done = names
    kill_at(tiny.start(TINY), r"^  register \u2026")
    result = tiny.result(TINY)
    assert result["version"] == 1
    assert set(done) <= set(result["reused"])
    for run in client.search_runs(["1"], "tags.`slimline.result` != ''"):
        artifact = json.loads(run.data.tags["slimline.result"])
        if artifact["uri"].startswith("models:/m-"):
            location = client.get_logged_model(artifact["uri"].removeprefix("models:/")).artifact_location
            assert digest_folder(Path(location.removeprefix("file://"))) == artifact["sha256"], (
                "what can be found is whole"
            )
