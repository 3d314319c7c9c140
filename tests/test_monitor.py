"""A registered version on new data: what it measures on data that are like the training's, and on data that are not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT
from registered import versions
from stores import run_at

from tasks.contract.errors import DataError, VersionError

UNSEEN = slice(600, None)  # the version was made from the first 600 digits


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images = load_digits()
    return images.images[..., None].astype(np.float32), images.target


@pytest.fixture(scope="module")
def champion(tmp_path_factory, prefect_server, empty_store):
    from tasks.store import registry

    with versions(tmp_path_factory.mktemp("state"), empty_store, {"seed": 1}):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield


def archive(folder: Path, x: np.ndarray, y: np.ndarray | None = None):
    """New data in a file, as a config that reads it."""
    from tasks.data.new import NewDataConfig

    np.savez(folder / "new.npz", **({"x": x} if y is None else {"x": x, "y": y}))
    return NewDataConfig(source=str(folder / "new.npz"), labels=y is not None)


def measured(result):
    """What a flow run kept in MLflow: the JSON, and the metrics of its stage."""
    from tasks.evidence.monitoring import open_monitoring
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    (stage,) = stages_of(run_at(result.mlflow_url))
    metrics = tracking.client().get_run(stage.run).data.metrics
    return open_monitoring(tracking.download(f"runs:/{stage.run}/monitoring")), metrics


def config(**settings):
    from tasks.drift.limits import MonitorConfig

    return MonitorConfig(latency_rounds=20, max_slowdown=100, **settings)  # another test may be at work beside this one


def test_the_profile_has_what_the_shipped_file_answered_to_the_test_split(champion):
    from tasks.drift.profile import open_profile
    from tasks.evidence.evidence import open_evidence
    from tasks.store import tracking

    folder = tracking.download("models:/tiny/1")
    (shipped,) = [file for file in open_evidence(folder / "evidence").files if file.shipped]
    columns = tuple(np.sum(shipped.confusion, axis=0))  # of labels in rows: how often each class was the answer
    assert open_profile(folder).predictions["answer"].counts == columns


def test_data_like_the_training_s_are_healthy(champion, digits, tmp_path):
    from flows.monitor import monitor

    x, y = digits
    order = np.random.default_rng(0).permutation(600)  # the test split is not new, and drift must not be seen in it
    result = monitor("tiny", archive(tmp_path, x[order], y[order]), config=config())
    report, metrics = measured(result)
    assert (result.degraded, result.reasons, result.event) == (False, (), "slimline.monitor.healthy")
    assert report.examples == report.examples_held == 600
    assert report.accuracy.estimate == pytest.approx(result.score)
    assert {drift.name for drift in report.inputs} == {"mean", "std", "minimum", "maximum", "roughness"}
    assert [drift.name for drift in report.targets] == ["label"]
    assert {drift.name for drift in report.predictions} == {"answer", "sureness"}
    assert metrics["drift/input/mean"] == pytest.approx(report.drifts()["input/mean"].stability_index)
    assert metrics["degraded"] == 0


def test_the_score_is_that_of_the_registered_file(champion, digits, tmp_path):
    import onnxruntime

    from flows.monitor import monitor
    from tasks.store import tracking

    x, y = (each[UNSEEN] for each in digits)
    session = onnxruntime.InferenceSession(tracking.download("models:/tiny/1") / "model.onnx")
    answers = session.run(None, {session.get_inputs()[0].name: x})[0]
    report, _ = measured(monitor("tiny", archive(tmp_path, x, y), config=config()))
    assert report.accuracy.estimate == pytest.approx((answers.argmax(1) == y).mean(), abs=1e-5)
    recorded = float(tracking.client().get_model_version("tiny", "1").tags["accuracy"])
    assert report.registered.estimate == pytest.approx(recorded, abs=1e-4)
    assert report.decay.estimate == pytest.approx(report.registered.estimate - report.accuracy.estimate, abs=1e-5)
    assert report.decay.low < report.decay.estimate < report.decay.high


def test_wrong_labels_are_decay_and_no_drift_of_inputs(champion, digits, tmp_path):
    from flows.monitor import monitor

    x, y = (each[:600] for each in digits)
    half = np.where(np.arange(600) % 2, y, (y + 1) % 10)
    result = monitor("tiny", archive(tmp_path, x, half), config=config())
    report, _ = measured(result)
    assert result.degraded
    assert report.decay.low > 0.3
    assert any(reason.startswith("max_decay = 0.03") for reason in result.reasons)
    assert not any(drift.drifted for drift in report.inputs)


def test_dimmer_images_are_drift_also_without_labels(champion, digits, tmp_path):
    from flows.monitor import monitor

    result = monitor("tiny", archive(tmp_path, digits[0][:600] * 0.4), config=config())
    report, _ = measured(result)
    assert report.accuracy is report.decay is None
    assert report.targets == ()
    drifted = {drift.name for drift in report.inputs if drift.drifted}
    assert {"mean", "maximum", "std"} <= drifted
    assert any("input/mean has moved by" in reason for reason in result.reasons)
    assert "Without labels decay cannot be seen" in report.notes[0]


def test_of_many_a_sample_or_the_last_are_measured(champion, digits, tmp_path):
    from flows.monitor import monitor

    x, y = digits
    order = np.argsort(y, kind="stable")  # of the last 200 all would be of the last classes
    report, _ = measured(monitor("tiny", archive(tmp_path, x[order], y[order]), config=config(max_examples=200)))
    assert (report.examples, report.examples_held) == (200, 1797)
    assert report.notes[0] == "Measured on 200 of 1,797 new examples, drawn from all."
    assert not [drift.name for drift in report.targets if drift.drifted]
    report, _ = measured(monitor("tiny", archive(tmp_path, x, y), config=config(max_examples=200, which="newest")))
    last, _ = measured(monitor("tiny", archive(tmp_path, x[-200:], y[-200:]), config=config()))
    assert report.accuracy == last.accuracy
    assert report.drifts() == last.drifts()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:50], y[:50]), "data.source: '50 examples': too few to judge by; min_examples is 100"),
        (lambda x, y: (x[:, :4], y), r"examples \(4, 8, 1\).*the model takes \(8, 8, 1\)"),
        (lambda x, y: (np.where(x == 3, np.nan, x), y), "NaN or infinite inputs"),
        (lambda x, y: (x, y + 5), "labels 5 to 14': number the labels 0 to 9"),
        (lambda x, y: (x, y[:, None] * [1, 1]), r"targets \(2,\) an example.*one target"),
    ],
)
def test_data_that_cannot_be_measured_are_refused_with_the_way_out(champion, digits, tmp_path, change, message):
    from flows.monitor import monitor

    with pytest.raises(DataError, match=message):
        monitor("tiny", archive(tmp_path, *change(*digits)), config=config())


def test_without_a_champion_there_is_nothing_to_monitor(champion, digits, tmp_path):
    from flows.monitor import monitor

    with pytest.raises(VersionError, match="name: 'nobody': has no champion to monitor"):
        monitor("nobody", archive(tmp_path, *digits), config=config())


def test_new_data_without_labels_cannot_be_learned_from(champion, digits, tmp_path):
    from flows.monitor import monitor

    with pytest.raises(DataError, match=r"config.again_on: 'new': the new data have no labels"):
        monitor("tiny", archive(tmp_path, digits[0]), config=config(again_on="new"))


def test_a_degraded_champion_starts_a_compression(champion, digits, tmp_path):
    """By the deployments and automations of the repository, on a real server; no worker takes the run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter

    from flows.install import install
    from flows.monitor import monitor
    from flows.recipe_file import registered_recipe

    install()
    degraded = DeploymentFilter(name=DeploymentFilterName(any_=["degraded"]))

    assert monitor("tiny", archive(tmp_path, *digits), config=config(max_decay=1, max_drift=100)).degraded is False
    data = archive(tmp_path, digits[0][:600] * 0.4, digits[1][:600])

    def started() -> list:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(deployment_filter=degraded, flow_run_filter=FlowRunFilter())
        # without those of the tests before this one, whose events a busy server gives its automations late
        return [run for run in runs if run.parameters["recipe"]["data"]["source"] == data.source]

    for _ in range(3):  # Prefect on SQLite loses an event now and then, when its database is locked
        assert monitor("tiny", data, config=config(again_on="new")).degraded
        deadline = time.monotonic() + 30
        while not started() and time.monotonic() < deadline:
            time.sleep(0.5)
        if started():
            break
    run = started()[0]
    recipe = registered_recipe("models:/tiny/1").model_dump(mode="json")
    recipe["data"] |= {"reader": "npz", "source": data.source, "limit": 0}  # and all else as it was
    assert run.parameters == {"recipe": recipe}


def test_the_command_line_says_it_with_its_exit_code(champion, digits, tmp_path):
    def slimline(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.cli", "monitor", "tiny", *arguments]
        return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)

    data = archive(tmp_path, digits[0][:600] * 0.4)
    arguments = [f"data.source={data.source}", "data.labels=false"]
    done = slimline(*arguments)
    assert done.returncode == 1, done.stderr
    assert "models:/tiny/1: degraded, 600 new examples" in done.stdout
    wrong = slimline(*arguments, "config.max_dift=1")
    assert wrong.returncode == 2
    assert "config.max_dift: 1: there is no such setting; did you mean `max_drift`?" in wrong.stderr
