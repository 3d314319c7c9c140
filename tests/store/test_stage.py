import ast
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from pydantic import BaseModel

from tasks.contract.artifact import ModelArtifact, digest_folder
from tasks.contract.errors import ConversionError, StoreError
from tasks.contract.progress import RunLog, listen
from tasks.contract.state_folder import home
from tasks.store import cache_key as cache_rule
from tasks.store import tracking
from tasks.store.cache_key import _shaped_by, cache_key, imports_of
from tasks.store.stage import StageRun, stage

pytestmark = pytest.mark.usefixtures("store", "prefect_server")

CALLS: list[str] = []


class Settings(BaseModel, frozen=True):
    text: str = "weights"
    fail: bool = False


@stage("write-{role}")
def write_model(run: StageRun, role: str, settings: Settings) -> ModelArtifact:
    CALLS.append(role)
    if settings.fail:
        raise ConversionError("layer conv: cannot be written")
    run.epoch(1, 1, {"loss": 0.5})
    return run.keep(lambda folder: _write(folder, settings.text), "keras", metrics={"size": len(settings.text)})


@stage("copy")
def copy_model(run: StageRun, model: ModelArtifact) -> ModelArtifact:
    CALLS.append("copy")
    source = tracking.fetch(model)
    return run.keep(lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True), "onnx", parent=model)


@stage("time", measures=lambda arguments: arguments["settings"].text == "timed")
def time_model(run: StageRun, settings: Settings) -> ModelArtifact:
    CALLS.append(settings.text)
    return run.keep(lambda folder: _write(folder, settings.text), "keras")


WAITS = threading.Event()


@stage("slow")
def slow_model(run: StageRun, settings: Settings) -> ModelArtifact:
    CALLS.append("slow")
    assert WAITS.wait(60), "nobody else came"
    return run.keep(lambda folder: _write(folder, settings.text), "keras")


class Waits(RunLog):
    def note(self, stage: str, message: str) -> None:
        assert (stage, "waits" in message) == ("slow", True)
        WAITS.set()


def _write(folder: Path, text: str) -> None:
    (folder / "model.txt").write_text(text)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def test_an_artifact_is_kept_by_content_and_reused():
    made = write_model("teacher", Settings())
    again = write_model("teacher", Settings())
    assert CALLS == ["teacher"]
    assert again == made
    assert digest_folder(tracking.fetch(made)) == made.sha256
    assert (tracking.fetch(made) / "model.txt").read_text() == "weights"


def test_of_two_at_once_the_second_finds_what_the_first_made():
    listen(Waits())
    try:
        with ThreadPoolExecutor(2) as threads:
            runs = [threads.submit(copy_context().run, slow_model, Settings()) for _ in range(2)]
            one, other = (run.result(120) for run in runs)
    finally:
        listen(RunLog())
    assert CALLS == ["slow"]
    assert one == other


def test_a_changed_setting_makes_it_anew_and_what_follows():
    first = copy_model(write_model("teacher", Settings()))
    second = copy_model(write_model("teacher", Settings(text="other")))
    assert CALLS == ["teacher", "copy", "teacher", "copy"]
    assert first.sha256 != second.sha256


def test_changed_source_makes_it_anew_and_what_follows(monkeypatch):
    first = copy_model(write_model("teacher", Settings()))
    CALLS.clear()
    original = cache_rule._shaped_by

    def touched(module: str) -> tuple[dict[str, str], dict[str, str]]:
        sources, libraries = original(module)
        return {**sources, module: "another digest"}, libraries

    monkeypatch.setattr(cache_rule, "_shaped_by", touched)
    second = copy_model(write_model("teacher", Settings()))
    assert CALLS == ["teacher", "copy"]
    assert second.sha256 == first.sha256
    assert second.key != first.key


@pytest.mark.parametrize("harm", ["delete", "damage", "add"])
def test_a_reused_artifact_that_is_gone_or_damaged_is_made_again(harm):
    made = write_model("teacher", Settings())
    folder = tracking.fetch(made)
    if harm == "delete":
        shutil.rmtree(folder)
    elif harm == "damage":
        (folder / "model.txt").write_text("weightz")
    else:
        (folder / "more.txt").write_text("")
    with pytest.raises(StoreError):
        tracking.fetch(made)
    again = write_model("teacher", Settings())
    assert CALLS == ["teacher", "teacher"]
    assert again.sha256 == made.sha256
    assert again.uri != made.uri


def test_a_failed_stage_leaves_a_failed_run_and_nothing_to_reuse():
    with pytest.raises(ConversionError, match="layer conv"):
        write_model("teacher", Settings(fail=True))
    (run,) = tracking.client().search_runs([tracking.experiment()])
    assert run.info.status == "FAILED"
    assert tracking.RESULT not in run.data.tags
    assert len(CALLS) == 1  # an error of the computation is not retried
    assert not list((home() / "checkpoints").iterdir()), "there is nothing to go on from"


def test_the_run_says_what_it_made():
    made = write_model("teacher", Settings())
    run = tracking.client().get_run(made.run)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "write-teacher"
    assert run.data.params["settings.text"] == "weights"
    assert run.data.metrics["loss"] == 0.5
    model = tracking.client().get_logged_model(made.uri.removeprefix("models:/"))
    assert model.status.value == "READY"
    assert model.tags["slimline.sha256"] == made.sha256
    assert {metric.key: metric.value for metric in model.metrics} == {"size": 7.0}


def test_the_key_knows_no_path_time_or_run(tmp_path, monkeypatch):
    artifact = ModelArtifact(stage="a", sha256="0" * 64, uri="models:/m-1", run="1", format="keras")
    moved = artifact.model_copy(update={"uri": "models:/m-2", "run": "2", "stage": "b"})
    key = cache_key("copy", "tasks.prepare", {"model": artifact})
    monkeypatch.chdir(tmp_path)
    assert cache_key("copy", "tasks.prepare", {"model": moved}) == key
    other = artifact.model_copy(update={"sha256": "1" * 64})
    assert cache_key("copy", "tasks.prepare", {"model": other}) != key
    assert cache_key("copy", "tasks.contract.artifact", {"model": artifact}) != key


def test_the_key_knows_the_order_of_targets():
    """The first target's file is the one that MLflow asks, and that size and latency are limited for."""
    targets = {"litert": "student", "savedmodel": "student"}
    swapped = dict(reversed(targets.items()))
    key = cache_key("validate", "tasks.prepare", {"shipped": targets, "seed": 1})
    assert cache_key("validate", "tasks.prepare", {"seed": 1, "shipped": dict(targets)}) == key
    assert cache_key("validate", "tasks.prepare", {"shipped": swapped, "seed": 1}) != key


@pytest.fixture
def fewer_cores():
    """Takes all cores but one away from this thread, which is another processor to whoever measures."""
    usable = os.sched_getaffinity(0)
    if len(usable) < 2:
        pytest.skip("one core cannot become fewer")
    yield lambda: os.sched_setaffinity(0, {min(usable)})
    os.sched_setaffinity(0, usable)


def test_what_was_measured_is_measured_again_on_another_processor(fewer_cores):
    here = {text: time_model(Settings(text=text)) for text in ("timed", "counted")}
    key = cache_key("validate", "tasks.prepare", {}, measured_here=True)
    fewer_cores()
    assert cache_key("validate", "tasks.prepare", {}, measured_here=True) != key
    assert time_model(Settings(text="timed")).key != here["timed"].key
    assert time_model(Settings(text="counted")).key == here["counted"].key, "whose result no machine decides"
    assert CALLS == ["timed", "counted", "timed"]


def test_the_key_covers_every_module_that_shapes_the_result():
    sources, libraries = _shaped_by("tasks.prune")
    assert {"tasks.prune", "tasks.training.loop", "tasks.training.losses", "tasks.data"} <= set(sources)
    assert "tasks.store.tracking" not in sources
    assert "tasks.distill" not in sources  # stages do not reach into each other
    assert {"tensorflow", "tensorflow-model-optimization", "numpy"} <= set(libraries)


def test_a_template_is_part_of_what_it_makes(monkeypatch, tmp_path):
    def touched():
        cache_rule._shaped_by.cache_clear()
        return _shaped_by("tasks.validate")[0]

    before = touched()
    shutil.copytree(cache_rule.ROOT / "tasks", tmp_path / "tasks")
    monkeypatch.setattr(cache_rule, "ROOT", tmp_path)
    assert touched() == before, "where it lies does not count"
    page = tmp_path / "tasks" / "evidence" / "templates" / "evidence.html"
    page.write_text(page.read_text() + "<!-- touched -->")
    after = touched()
    cache_rule._shaped_by.cache_clear()
    cache_rule._read.cache_clear()
    assert [name for name in before if before[name] != after[name]] == ["tasks/evidence/templates"]


def test_imports_in_functions_count():
    inside = "    from tasks.data.readers import digits\n    import tasks.training.loop"
    tree = ast.parse(f"import numpy as np\ndef f():\n{inside}")
    assert imports_of(tree) == {"numpy", "tasks.data.readers", "tasks.data.readers.digits", "tasks.training.loop"}


def test_nothing_is_written_outside_the_state_folder(store):
    before = set(os.listdir())
    write_model("teacher", Settings())
    assert set(os.listdir()) == before
    assert (store / "artifacts").is_dir()


def test_runs_that_name_the_same_data_set_at_once_all_do():
    """MLflow refuses the second of two that both find it missing, which on a shared server ended a run."""
    runs = [tracking.start_run("prepare", {}, {}) for _ in range(4)]
    together = threading.Barrier(len(runs))

    def name(run: str, digest: str) -> None:
        together.wait(60)
        tracking.log_dataset(run, "digits", digest, "digits", {}, "prepare")

    digests = [f"{number:064d}"[::-1] for number in range(1, 21)]
    with ThreadPoolExecutor(len(runs)) as pool:
        for digest in digests:
            list(pool.map(name, runs, [digest] * len(runs)))
    for run in runs:
        named = tracking.client().get_run(run).inputs.dataset_inputs
        assert {each.dataset.digest for each in named} == {digest[:32] for digest in digests}
