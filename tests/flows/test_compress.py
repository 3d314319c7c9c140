"""The flow on real data, real stores and a real Prefect server: the smallest recipe that goes through every stage."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, Slimline
from servers import postgres_servers
from stores import home_at

from flows.compression import compress
from flows.recipe_file import check_settings
from flows.report import Compression
from tasks.contract.artifact import digest_folder


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def slimline(request, tmp_path_factory):
    """On SQLite with a server that it starts itself, and with both on PostgreSQL, as test_workers has them."""
    folder = tmp_path_factory.mktemp("slimline")
    if request.param == "sqlite":
        yield Slimline(folder)
        return
    with postgres_servers(folder / "servers") as servers:
        yield Slimline(folder, servers)


# What asks the stores nothing that the tests on both have not asked: which stages a recipe has, and what they come to.
on_sqlite = pytest.mark.parametrize("slimline", ["sqlite"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def first(slimline) -> dict:
    return slimline.result(TINY)


@pytest.fixture
def store(slimline, first):
    with home_at(slimline.state) as state:
        if slimline.servers:
            os.environ["MLFLOW_TRACKING_URI"] = slimline.servers.urls["mlflow"]
        yield state


def prefect_states(slimline: Slimline, kind: str, flow: str) -> list[str]:
    """What Prefect remembers of a flow run, by id or model, or of its task runs: also after its server is gone."""
    if slimline.servers:
        runs = slimline.servers.api("flow_runs/filter", {})
        (run,) = [run for run in runs if flow in (run["id"], run["name"].partition(":")[0])]
        tasks = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        runs = [run] if kind == "flow_run" else slimline.servers.api("task_runs/filter", tasks)
        return [each["state_name"] for each in runs]
    question = (
        "select state_name from flow_run where name like ? || '%' or id = ?"
        if kind == "flow_run"
        else "select task_run.state_name from task_run join flow_run on flow_run.id = flow_run_id "
        "where flow_run.name like ? || '%' or flow_run.id = ?"
    )
    with sqlite3.connect(slimline.state / "prefect" / "prefect.db") as database:
        return [state for (state,) in database.execute(question, (flow, flow))]


def logged(slimline: Slimline, flow_run: str) -> str:
    """What Prefect shows as the log of a flow run and of its task runs."""
    if slimline.servers:
        entries = slimline.servers.api("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})
        return "\n".join(entry["message"] for entry in entries)
    with sqlite3.connect(slimline.state / "prefect" / "prefect.db") as database:
        question = "select message from log where replace(flow_run_id, '-', '') = ?"
        return "\n".join(text for (text,) in database.execute(question, (flow_run.replace("-", ""),)))


def compressed_here(settings: dict) -> Compression:
    """The same flow on the same store in this process, which need not import all libraries anew."""
    return compress(check_settings(settings))


def test_a_recipe_ends_with_a_registered_version(first, store):
    from tasks.store import tracking

    assert first["name"] == "tiny"
    assert first["version"] == 1
    assert first["reused"] == []
    version = tracking.client().get_model_version("tiny", "1")
    assert version.aliases == ["candidate"]
    assert version.description.startswith("# tiny")
    for tag in (
        "slimline.content",
        "slimline.recipe",
        "slimline.data",
        "prefect.flow_run_id",
        "accuracy",
        "integer_share",
    ):
        assert version.tags[tag]
    assert version.tags["prefect.flow_run_id"] == first["flow_run"]
    assert version.run_id == first["runs"]["register"]


def test_what_ships_stands_on_every_page_where_two_compressions_are_compared(first, store):
    from tasks.store import tracking

    served = next(line for line in first["figures"] if line["shipped"] and line["target"] == "onnxruntime")
    expected = {"drop": served["drop"], "drop_high": served["drop_high"], "size_bytes": served["size_bytes"]}
    expected |= {"accuracy": served["score"], "speedup": served["speedup"], "integer_share": served["integer_share"]}
    expected |= {"latency_p50_ms": served["latency_p50_ms"]}
    client = tracking.client()
    (output,) = client.get_run(first["runs"]["register"]).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    pages = {run: client.get_run(first["runs"][run]).data.metrics for run in ("register", "validate")}
    pages |= {"parent": client.get_run(first["mlflow_run"]).data.metrics}
    pages |= {"model": {metric.key: metric.value for metric in model.metrics}}
    for page, metrics in pages.items():
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5), page
    for page in ("register", "parent", "model"):
        assert pages[page]["size_ratio"] > 1
        assert pages[page]["onnxruntime/drop"] == pages[page]["drop"]
        assert pages[page]["litert/size_bytes"] != pages[page]["size_bytes"]
    plots = {file.path for file in client.list_artifacts(first["mlflow_run"], "report/plots")}
    drawn = ("drops", "pareto", "sizes_and_latencies", "confusion", "learning_curves_train-teacher")
    assert {f"report/plots/{name}.png" for name in drawn} <= plots


def test_each_page_in_mlflow_leads_to_the_next(first, store):
    """By the menu of models: MLflow's other one is about language models."""
    from tasks.store import tracking

    client = tracking.client()
    parent, made = (client.get_run(run) for run in (first["mlflow_run"], first["runs"]["register"]))
    assert parent.info.run_name == parent.data.tags["prefect.flow_run_name"]
    assert parent.info.run_name.startswith("tiny: "), "what was set tells compressions apart"
    assert [model.model_id for model in parent.outputs.model_outputs] == [made.outputs.model_outputs[0].model_id]
    version = "/#/models/tiny/versions/1?workflowType=machine_learning"
    evidence = f"/runs/{first['mlflow_run']}/artifacts/report/index.html?workflowType=machine_learning"
    note = parent.data.tags["mlflow.note.content"]
    assert version in note
    assert evidence in note
    assert first["version_url"].endswith(version)
    page = (tracking.download(f"runs:/{first['mlflow_run']}/report") / "index.html").read_text()
    assert "models:/tiny/1" in page
    assert "budget.max_accuracy_drop" in page
    assert version in page
    assert "budget.max_accuracy_drop" in page
    measured = f"/runs/{first['runs']['validate']}/artifacts/evidence/index.html?workflowType=machine_learning"
    assert measured in client.get_model_version("tiny", "1").description


def test_two_versions_can_be_compared_setting_by_setting(first, store):
    """MLflow compares the parameters of the runs that made them."""
    from tasks.store import tracking

    settings = tracking.client().get_run(first["runs"]["register"]).data.params
    assert settings["recipe.student.width"] == "0.25"
    assert settings["recipe.quantize.fit.epochs"] == "1"
    assert "recipe" not in settings, "as one text nobody can compare it"


def test_a_curve_has_no_point_where_no_epoch_was(first, store):
    from tasks.store import tracking

    history = tracking.client().get_metric_history(first["runs"]["train-teacher"], "validation_score")
    assert {point.step for point in history} == set(range(1, 9))
    best = max(history, key=lambda point: point.value)
    (model,) = tracking.client().get_run(first["runs"]["train-teacher"]).outputs.model_outputs
    kept = {metric.key: metric for metric in tracking.client().get_logged_model(model.model_id).metrics}
    assert kept["validation_score"].value == best.value


def test_mlflow_and_prefect_know_each_other(slimline, first, store):
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    parent = tracking.client().get_run(first["mlflow_run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["prefect.flow_run_id"] == first["flow_run"]
    assert parent.data.params["student.width"] == "0.25"
    assert prefect_states(slimline, "flow_run", first["flow_run"]) == ["Completed"]
    assert prefect_states(slimline, "task_run", first["flow_run"]) == ["Completed"] * len(first["seconds"])
    assert any(name.startswith("system/") for name in parent.data.metrics)
    children = stages_of(first["mlflow_run"])
    assert {"prepare", "train-teacher", "distill", "prune", "quantize-training", "validate", "register"} <= {
        child.stage for child in children
    }
    distilled = tracking.client().get_run(first["runs"]["distill"])
    assert distilled.data.tags["mlflow.parentRunId"] == first["mlflow_run"]
    history = tracking.client().get_metric_history(first["runs"]["distill"], "loss")
    assert [point.step for point in history] == list(range(1, 9))
    (dataset,) = tracking.client().get_run(first["runs"]["prepare"]).inputs.dataset_inputs
    assert dataset.dataset.digest == tracking.client().get_model_version("tiny", "1").tags["slimline.data"][:32]
    pruned = tracking.client().get_run(first["runs"]["prune"])
    sparsities = {name: value for name, value in pruned.data.metrics.items() if name.startswith("sparsity/")}
    assert sparsities
    assert max(sparsities.values()) == pytest.approx(0.5, abs=0.05)


def test_what_is_registered_answers_raw_images(first, store, tmp_path):
    import mlflow
    from sklearn.datasets import load_digits

    from tasks.store import tracking

    tracking.client()
    model = mlflow.pyfunc.load_model("models:/tiny@candidate", dst_path=tmp_path)
    digits = load_digits()
    images = digits.images[:200, ..., None].astype(np.float32)
    (probabilities,) = model.predict(images).values()
    assert probabilities.shape == (200, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-3)
    assert (probabilities.argmax(axis=1) == digits.target[:200]).mean() > 0.5
    requirements = mlflow.pyfunc.get_model_dependencies("models:/tiny@candidate")
    assert "tensorflow" not in Path(requirements).read_text()


def test_a_version_holds_all_that_it_takes_to_trust_it(first, store):
    from tasks.store import tracking

    folder = tracking.download(first["uri"])
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "model.onnx", "labels.json", "recipe.yaml", "README.md", "formats/litert/model.tflite"} <= files
    assert {"evidence/evidence.json", "evidence/index.html", "profile.json", "sample.npz"} <= files
    with np.load(folder / "sample.npz") as sample:
        assert sample["examples"].shape == (16, 8, 8, 1)
        for target in ("onnxruntime", "litert", "savedmodel"):
            np.testing.assert_allclose(sample[target].sum(axis=1), 1, atol=1e-3)
    assert json.loads((folder / "labels.json").read_text()) == [str(digit) for digit in range(10)]
    evidence = json.loads((folder / "evidence" / "evidence.json").read_text())
    shipped = [file for file in evidence["files"] if file["shipped"]]
    assert {file["target"] for file in shipped} == {"onnxruntime", "litert", "savedmodel"}
    (served,) = [file for file in shipped if file["target"] == "onnxruntime"]
    assert served["precision"] == "int8"
    assert served["integer_share"] > 0.99


def test_again_unchanged_everything_is_reused_and_no_tensorflow_is_imported(slimline, first):
    native = slimline.state / "native.log"  # where file descriptor 2 leads, which importtime writes to
    native.unlink()
    done = slimline.run(TINY, python=("-X", "importtime"))
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert set(result["reused"]) == set(result["seconds"]) == set(first["seconds"])
    assert result["version"] == 1
    assert prefect_states(slimline, "task_run", result["flow_run"]) == ["Cached"] * len(result["reused"])
    imported = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in (done.stderr + native.read_text()).splitlines()
        if line.startswith("import time:")
    }
    assert "prefect" in imported
    assert not imported & {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "tf2onnx"}


@on_sqlite
def test_change_only_quantize_and_what_came_before_is_reused(first, store, prefect_server):
    result = compressed_here({**TINY, "quantize": {**TINY["quantize"], "calibration_examples": 48}})
    assert {"prepare", "train-teacher", "distill", "prune"} <= set(result.reused)
    assert not {"quantize-training", "validate", "register"} & set(result.reused)


def test_a_deleted_artifact_is_made_again(slimline, first, store):
    from tasks.store import tracking

    run = tracking.client().get_run(first["runs"]["distill"])
    uri = json.loads(run.data.tags[tracking.RESULT])["uri"]
    (kept,) = slimline.artifacts.rglob(uri.removeprefix("models:/"))
    assert digest_folder(kept / "artifacts") == digest_folder(tracking.download(uri))
    shutil.rmtree(kept)
    result = slimline.result(TINY)
    assert "distill" not in result["reused"]
    assert {"prepare", "train-teacher", "prune", "register"} <= set(result["reused"])  # the same bytes came out again
    made = tracking.client().get_run(result["runs"]["distill"])
    assert json.loads(made.data.tags[tracking.RESULT])["sha256"] == json.loads(run.data.tags[tracking.RESULT])["sha256"]


def test_an_impossible_budget_registers_nothing_and_says_why(slimline, first, store):
    from tasks.store import tracking

    done = slimline.run(TINY, "budget.max_size_bytes=10", "name=impossible")
    assert done.returncode == 1
    assert "budget.max_size_bytes = 10" in done.stderr
    assert "student.width" in done.stderr
    assert "Traceback" not in done.stderr
    assert "impossible was not registered" in done.stderr
    assert "compressed *" in done.stderr
    measured = json.loads(done.stdout)
    (missed,) = [line for line in measured["limits"] if not line["kept"]]
    assert missed["field"] == "budget.max_size_bytes"
    assert measured["evidence"] in "".join(done.stderr.split())
    page = tracking.download(f"runs:/{measured['mlflow_run']}/report") / "index.html"
    assert "not registered" in page.read_text()
    assert not tracking.client().search_registered_models("name = 'impossible'")
    parent = tracking.client().get_run(measured["mlflow_run"])
    assert parent.info.status == "FAILED"
    assert prefect_states(slimline, "flow_run", "impossible") == ["Failed"]
    assert "max_size_bytes = 10" in logged(slimline, measured["flow_run"])
    assert "Traceback" not in logged(slimline, measured["flow_run"]), "a refusal is no crash"
    assert parent.data.metrics["size_bytes"] > 10
    assert "max_size_bytes" in parent.data.tags["slimline.error"]
    assert "/artifacts/report/index.html" in parent.data.tags["mlflow.note.content"]
    assert "/models/" not in parent.data.tags["mlflow.note.content"]


@on_sqlite
def test_left_out_stages_are_said_and_skipped(slimline, first):
    plain = {
        **TINY,
        "distill": {"method": "none"},
        "prune": {"method": "none"},
        "quantize": {"method": "none"},
        "student": {},
    }
    done = slimline.run({**plain, "targets": ["onnxruntime"]})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"prune", "distill"}.isdisjoint(result["seconds"])
    assert not any(stage.startswith("quantize") for stage in result["seconds"])
    assert "prune: left out" in done.stderr
    assert "train-teacher" in result["reused"]


@on_sqlite
def test_auto_tries_every_way_and_ships_the_one_it_chose(first, store, prefect_server):
    from tasks.store import tracking

    result = compressed_here(
        {**TINY, "targets": ["onnxruntime"], "quantize": {**TINY["quantize"], "method": "auto"}, "name": "chosen"}
    )
    assert {"train-teacher", "distill", "prune"} <= set(result.reused)
    evidence = json.loads((tracking.download(result.uri) / "evidence" / "evidence.json").read_text())
    ways = ["teacher", "student", "float16", "dynamic", "static", "toolchain", "mixed", "training"]
    assert [row["route"] for row in evidence["tried"]] == ways
    (taken,) = [row for row in evidence["tried"] if row["chosen"]]
    (served,) = [file for file in evidence["files"] if file["shipped"]]
    assert taken["route"] != "teacher"
    assert (taken["precision"], taken["size_bytes"]) == (served["precision"], served["size_bytes"])
