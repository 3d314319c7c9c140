"""What a run survives: a server that goes away, a worker that dies; and a schedule that fires by itself."""

import re
import signal
import time
from datetime import datetime

import pytest
from command_line import TINY
from mlflow import MlflowClient
from servers import Servers, sqlite_servers, until

pytestmark = pytest.mark.slow


def longer(epochs: int) -> dict:
    return {**TINY, "distill": {**TINY["distill"], "fit": {**TINY["distill"]["fit"], "epochs": epochs, "patience": 0}}}


@pytest.fixture
def servers(tmp_path):
    with sqlite_servers(tmp_path / "servers") as running:
        running.install()
        running.worker("one")
        yield running


def stages(servers: Servers, flow: str) -> dict[str, list]:
    """The MLflow runs of a flow run's stages, by stage."""
    client = MlflowClient(servers.urls["mlflow"])
    (experiment,) = [each for each in client.search_experiments() if each.name == "slimline"]
    stages_of: dict[str, list] = {}
    for run in client.search_runs([experiment.experiment_id], f"tags.`prefect.flow_run_id` = '{flow}'"):
        if run.data.tags["slimline.role"] == "stage":
            stages_of.setdefault(run.info.run_name, []).append(run)
    return stages_of


def check_nothing_is_lost_or_doubled(servers: Servers, flow: str) -> None:
    client = MlflowClient(servers.urls["mlflow"])
    made = stages(servers, flow)
    assert {"prepare", "train-teacher", "distill", "prune", "quantize-training", "validate", "register"} <= set(made)
    assert {tuple(run.info.status for run in runs) for runs in made.values()} == {("FINISHED",)}
    for stage, epochs in (("train-teacher", 8), ("distill", 60), ("prune", 2)):
        history = client.get_metric_history(made[stage][0].info.run_id, "loss")
        assert [point.step for point in history] == list(range(1, epochs + 1))
    assert [version.version for version in client.search_model_versions("name = 'tiny'")] == ["1"]


def await_stage(servers: Servers, run: str, pattern: str) -> None:
    until(lambda: re.search(pattern, servers.log("one")), 200, lambda: servers.log("one")[-3000:])


@pytest.mark.parametrize(("server", "seconds"), [("mlflow", 60), ("prefect", 30)])
def test_a_server_that_is_away_is_waited_for(servers, server, seconds):
    run = servers.run("compress/every-setting", {"recipe": longer(60)})
    await_stage(servers, run, r"distill: epoch 5 of")
    servers.stop(server)
    time.sleep(seconds)
    assert "Finished in state Failed" not in servers.log("one")
    servers.start(server)
    assert servers.await_state(run, "Completed", "Failed", "Crashed") == "Completed", servers.log("one")[-5000:]
    check_nothing_is_lost_or_doubled(servers, run)


def test_a_dead_workers_run_is_marked_and_another_worker_finishes_it(servers):
    run = servers.run("compress/every-setting", {"recipe": longer(500)})
    await_stage(servers, run, r"distill: epoch 5 of")
    time.sleep(35)  # a heartbeat every 30 seconds: what has never beaten cannot be missed
    servers.stop("one", signal.SIGKILL)
    assert servers.await_state(run, "Crashed", within=240) == "Crashed"
    assert "No heartbeat" in servers.api(f"flow_runs/{run}")["state"]["message"]
    servers.worker("two")
    servers.api(f"flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}})
    assert servers.await_state(run, "Completed", "Failed") == "Completed", servers.log("two")[-5000:]
    made = stages(servers, run)
    assert [each.info.status for each in made["train-teacher"]] == ["FINISHED"], "not trained a second time"
    assert sorted(each.info.status for each in made["distill"]) == ["FINISHED", "KILLED"]
    assert len(MlflowClient(servers.urls["mlflow"]).search_model_versions("name = 'tiny'")) == 1


def test_a_schedule_fires_twice_by_itself(servers):
    deployment = servers.api("deployments/name/compress-recipe/recipe")
    settings = ["data.limit=300", "teacher.fit.epochs=1", "distill.method=none", "prune.method=none"]
    settings += ["student.model=teacher", "quantize.method=none", "targets=[onnxruntime]"]
    settings += ["validate.latency_rounds=5", "validate.latency_seconds=1"]
    settings += ["budget.max_accuracy_drop=1", "budget.min_size_ratio=0", "budget.min_integer_share=0"]
    schedule = {
        "schedule": {"cron": "* * * * *", "timezone": "Europe/Berlin"},
        "active": True,
        "parameters": {"settings": settings},
    }
    servers.api(f"deployments/{deployment['id']}/schedules", [schedule])

    def finished() -> list[dict]:
        state = {"name": {"any_": ["Completed"]}}
        runs = servers.api(
            "flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}, "state": state}}
        )
        return [run for run in runs if run["auto_scheduled"]]

    runs = until(lambda: (done := finished()) and len(done) >= 2 and done, 400, lambda: servers.log("one")[-3000:])
    times = sorted(datetime.fromisoformat(run["expected_start_time"]) for run in runs)
    assert all(when.second == 0 for when in times)
    assert (times[1] - times[0]).total_seconds() >= 60
    assert runs[0]["parameters"]["recipe"] == "digits"
