"""Two workers that share nothing but the servers, both of those on PostgreSQL."""

import json
import re
from pathlib import Path

import pytest
import yaml
from command_line import TINY
from mlflow import MlflowClient
from servers import Servers, postgres_servers

from tasks.contract.artifact import digest_folder
from tasks.store.stage_runs import REUSED

ONE_FILE = {**TINY, "targets": ["onnxruntime"]}
# over what the recipe of the digits says
SMALL = {**ONE_FILE, "seed": 4, "budget": {"max_accuracy_drop": 1.0, "min_size_ratio": 0, "min_integer_share": 0}}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with postgres_servers(tmp_path_factory.mktemp("postgres") / "servers") as running:
        running.install()
        running.worker("one")
        running.worker("two")
        yield running


@pytest.fixture(scope="module")
def runs(servers: Servers) -> list[str]:
    """Two flow runs at once: by the form, and by a recipe's name with what makes it as small."""
    settings = [f"{name}={json.dumps(value)}" for name, value in flat(SMALL).items()]
    started = [
        servers.run("compress/every-setting", {"recipe": ONE_FILE}),
        servers.run("compress-recipe/recipe", {"recipe": "digits", "settings": settings}),
    ]
    for run in started:
        assert servers.await_state(run, "Completed", "Failed", "Crashed") == "Completed", logs(servers)
    return started


def flat(settings: dict, prefix: str = "") -> dict:
    values = {}
    for name, value in settings.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def logs(servers: Servers) -> str:
    return servers.log("one")[-3000:] + servers.log("two")[-3000:]


@pytest.fixture
def client(servers) -> MlflowClient:
    return MlflowClient(servers.urls["mlflow"])


def test_each_worker_took_one_and_both_worked_at_the_same_time(servers, runs):
    for worker in ("one", "two"):
        assert len(re.findall(r"submitted to infrastructure", servers.log(worker))) == 1, servers.log(worker)
    first, second = (servers.api(f"flow_runs/{run}") for run in runs)
    assert max(first["start_time"], second["start_time"]) < min(first["end_time"], second["end_time"])


def test_both_ended_registered_as_distinct_versions(runs, client):
    versions = client.search_model_versions("name = 'tiny'")
    assert {version.version for version in versions} == {"1", "2"}
    assert {version.tags["prefect.flow_run_id"] for version in versions} == set(runs)
    assert len({version.tags["slimline.content"] for version in versions}) == 2


def test_no_run_is_lost_or_open(servers, runs, client):
    (experiment,) = [each for each in client.search_experiments() if each.name == "slimline"]
    runs_made = client.search_runs([experiment.experiment_id], max_results=200)
    assert {run.info.status for run in runs_made} == {"FINISHED"}
    for flow in runs:
        (parent,) = [run for run in runs_made if run.data.tags.get("slimline.role") == "compression" and of(run, flow)]
        made = [run.info.run_name for run in runs_made if run is not parent and of(run, flow)]
        reused = [tag.removeprefix(REUSED) for tag in parent.data.tags if tag.startswith(REUSED)]  # from the other run
        assert set(reused) <= {"prepare"}
        tasks = servers.api("task_runs/filter", {"flow_runs": {"id": {"any_": [flow]}}})
        assert sorted(task["name"] for task in tasks) == sorted(made + reused)
        assert {task["state_name"] for task in tasks} <= {"Completed", "Cached"}
        assert {"train-teacher", "distill", "prune", "quantize-training", "validate", "register"} <= set(made)


def of(run, flow: str) -> bool:
    return run.data.tags["prefect.flow_run_id"] == flow


def test_artifacts_travelled_through_mlflow(servers, runs, client, tmp_path):
    import mlflow

    for worker in ("one", "two"):
        state = servers.folder / worker / "state"
        assert not [path for path in state.rglob("*") if path.suffix in {".onnx", ".tflite", ".h5", ".db"}]
    mlflow.set_tracking_uri(servers.urls["mlflow"])
    try:
        folder = Path(mlflow.artifacts.download_artifacts("models:/tiny/1", dst_path=str(tmp_path)))
    finally:
        mlflow.set_tracking_uri(None)
    seed = yaml.safe_load((folder / "recipe.yaml").read_text())["seed"]
    version = client.get_model_version("tiny", "1")
    result = json.loads(client.get_run(version.run_id).data.tags["slimline.result"])
    assert seed in (3, 4)
    assert digest_folder(folder) == result["sha256"]


@pytest.mark.slow
def test_any_worker_promotes_and_rolls_back(servers, runs, client):
    """Through both servers on PostgreSQL, and with files that each worker has to fetch first."""

    def ended(deployment: str, parameters: dict) -> dict[str, str]:
        run = servers.run(deployment, parameters)
        assert servers.await_state(run, "Completed", "Failed", "Crashed") == "Completed", logs(servers)
        aliases = client.get_registered_model("tiny").aliases
        return {name: version for name, version in aliases.items() if name != "candidate"}

    client.set_registered_model_alias("tiny", "champion", "1")
    promoted = ended("promote/registered", {"name": "tiny", "candidate": "2"})
    assert promoted == {"champion": "2", "previous": "1"}
    assert ended("rollback/registered", {"name": "tiny"}) == {"champion": "1", "previous": "2"}
    watched = servers.run("monitor/champion", {"name": "tiny", "data": {"reader": "digits"}})
    assert servers.await_state(watched, "Completed", "Failed", "Crashed") == "Completed", logs(servers)


def test_what_the_form_cannot_mean_is_refused_before_a_worker_hears_of_it(servers, runs):
    import httpx

    for deployment, parameters, field in (
        ("compress/every-setting", {"recipe": {**TINY, "seed": -1}}, "seed"),
        ("compress/every-setting", {"recipe": {**TINY, "name": "No Name"}}, "name"),
        ("compress/every-setting", {"recipe": {**TINY, "targets": ["gameboy"]}}, "targets"),
        ("compress/every-setting", {"recipe": {**TINY, "bogus": 1}}, "bogus"),
        ("compress-recipe/recipe", {"recipe": "nothing"}, "recipe"),
    ):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            servers.run(deployment, parameters)
        assert refused.value.response.status_code in (409, 422)
        assert field in refused.value.response.text
