"""A run leaves a real store: killed at any line, and while a stage takes it up."""

import os
import sys
import time

import pytest
from stage_artifacts import made

from tasks.contract.artifact import ModelArtifact
from tasks.contract.state_folder import alone
from tasks.store import database, left_files, needed, registry, removal, tracking

pytestmark = pytest.mark.usefixtures("store")


def kept() -> needed.KeptRun:
    [run] = needed.our_runs()
    return run


def test_a_run_goes_with_all_that_it_made(store, tmp_path):
    artifact = made(tmp_path)
    run = kept()
    assert removal.size(run) == len("weights") + len("curve")
    assert removal.remove(run)
    assert tracking.find("key", ModelArtifact) is None
    assert needed.our_runs() == []
    assert not [each for each in (store / "artifacts").rglob("*") if each.name != "models"]
    assert not database.entries(store / "mlflow.db") & {artifact.run, artifact.uri.removeprefix("models:/")}
    assert removal.remove(run), "twice is once"


def test_killed_at_any_line_it_is_no_hit_and_goes_the_next_time(store, tmp_path):
    stopped, done, line = 0, False, 0
    while not done:
        line += 1
        artifact = made(tmp_path, key=f"key{line}")
        run = kept()
        done = not cut_off_at(line, lambda run=run: removal.remove(run))
        whole = all(tracking.files_at(place).list_artifacts() for place in run.places.values())
        hit = tracking.find(artifact.key, ModelArtifact)
        assert hit is None or whole, f"line {line}: found, and its files are not all there"
        stopped += hit is None and not done
        for left in needed.our_runs():
            assert removal.remove(left), f"line {line}: what was left is not taken up"
        assert needed.our_runs() == []
        assert not [each for each in (store / "artifacts").rglob("*") if each.name != "models"], f"line {line}"
        assert artifact.run not in database.entries(store / "mlflow.db")
    assert stopped > 5, "it was killed after its first step"


def cut_off_at(line: int, call) -> bool:
    """Whether `removal`'s code came to so many lines, and was stopped there as nothing in it can undo."""
    count = 0

    def look(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != removal.__file__:
            return None
        if event == "line":
            count += 1
            if count == line:
                raise KeyboardInterrupt
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_what_was_taken_up_since_it_was_looked_at_is_put_back(tmp_path):
    artifact = made(tmp_path)
    run = kept()
    assert tracking.find("key", ModelArtifact) == artifact
    assert not removal.remove(run)
    assert tracking.find("key", ModelArtifact) == artifact, "whole, and found again"
    assert kept().last > run.last, "it counts as young"


def test_a_run_that_was_opened_again_is_put_back(tmp_path):
    artifact = made(tmp_path)
    run = kept()
    tracking.client().update_run(artifact.run, status="RUNNING")  # as a flow run that is retried does
    assert not removal.remove(run)
    assert kept().status == "RUNNING"
    assert not kept().deleted


def test_a_stage_of_what_is_at_work_again_is_put_back(tmp_path):
    parent = tracking.start_run("tiny", {tracking.ROLE: "compression"}, {})
    tracking.end_run(parent, failed=True)
    artifact = made(tmp_path, parent=parent)
    run = next(run for run in needed.our_runs() if run.run == artifact.run)
    tracking.client().update_run(parent, status="RUNNING")  # it is retried
    assert not removal.remove(run)
    assert tracking.find("key", ModelArtifact) == artifact


def test_what_goes_while_a_stage_looks_at_it_is_no_hit(tmp_path):
    made(tmp_path)

    class RemovedMeanwhile(ModelArtifact):
        @classmethod
        def model_validate_json(cls, text, **options):  # the first step after the look-up
            artifact = ModelArtifact.model_validate_json(text, **options)
            tracking.client().delete_run(artifact.run)  # the first step of a removal
            return artifact

    assert tracking.find("key", RemovedMeanwhile) is None


def test_what_others_made_in_the_experiment_is_none_of_ours(tmp_path):
    tracking.client().create_run(tracking.experiment(), run_name="somebody's")
    artifact = made(tmp_path)
    assert [run.run for run in needed.our_runs()] == [artifact.run]


def test_the_registry_names_what_versions_are_of(tmp_path):
    made(tmp_path)
    run, model = kept(), next(iter(set(kept().places) - {""}))
    tracking.client().create_registered_model("m")
    version = tracking.client().create_model_version("m", f"models:/{model}", model_id=model)
    assert model in registry.named_ids()
    go, stay = needed.sorted_out(time.time() + 1)
    assert (go, stay) == ([], [run]), "named by its model alone, as no run made the version"
    tracking.client().delete_model_version("m", version.version)
    go, stay = needed.sorted_out(time.time() + 1)
    assert (go, stay) == ([run], []), "a version that is deleted needs nothing"
    tracking.client().set_registered_model_tag("m", registry.MOVED_BY, f"flow run http://x/{run.run}")
    assert needed.sorted_out(time.time() + 1) == ([], [run])


def test_files_that_nobody_reads(store):
    now = time.time()
    old, young = now - 1000, now
    for name, at in {
        "taught/a.npy": old,
        "taught/b.npy": young,
        "checkpoints/c/last/training.npz": old,
        "checkpoints/d/last/training.npz": young,
        "checkpoints/e.lock": old,
        f"artifacts/{'1' * 32}/artifacts/x": old,
        f"artifacts/{'2' * 32}/artifacts/x": young,
        f"artifacts/models/m-{'3' * 32}/artifacts/x": old,
        f"artifacts/7/{'4' * 32}/artifacts/x": old,
        f"artifacts/{'5' * 32}/artifacts/x": old,
        "artifacts/a-persons-own/x": old,
    }.items():
        file = store / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        for each in (file, *file.parents):
            if each.is_relative_to(store) and each != store:
                os.utime(each, (at, at))

    def names(found):
        return sorted(str(left.place.relative_to(store)) for left in found)

    before = now - 500
    assert names(left_files.answers(before)) == ["taught/a.npy"]
    assert names(left_files.checkpoints(before)) == ["checkpoints/c", "checkpoints/e.lock"]
    strays = left_files.strays({"5" * 32}, before)
    assert names(strays) == sorted(
        [f"artifacts/{'1' * 32}", f"artifacts/7/{'4' * 32}", f"artifacts/models/m-{'3' * 32}"]
    )
    found = [*left_files.answers(before), *left_files.checkpoints(before), *strays]
    (store / "taught" / "a.npy").touch()  # read meanwhile
    with alone(store / "checkpoints" / "c.lock", lambda: None):  # and a training goes on there
        assert [left_files.remove(left) for left in found] == [False, False, True, True, True, True]
    assert names(left_files.checkpoints(before)) == ["checkpoints/c"]
    assert left_files.remove(found[1])
    assert not (store / "checkpoints" / "c").exists()
    assert not (store / "checkpoints" / "c.lock").exists()
    assert (store / "taught" / "a.npy").exists()
    assert (store / "artifacts" / "a-persons-own" / "x").exists()
