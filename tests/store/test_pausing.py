"""A student's training that pauses goes on where it was, and ends as one that was never asked to wait."""

import pytest
from stores import forget

from tasks.contract.artifact import ModelArtifact
from tasks.contract.state_folder import home
from tasks.data import DataConfig
from tasks.prepare import prepare_data
from tasks.store import tracking
from tasks.store.pausing import Paused, is_due, pausing
from tasks.store.stage_runs import epochs_of
from tasks.train import train_model
from tasks.training.loop import FitConfig
from tasks.zoo import ModelConfig

pytestmark = pytest.mark.usefixtures("store", "prefect_server")

FIT = FitConfig(epochs=5, batch_size=32, learning_rate=0.01)


def trained(role: str = "student") -> ModelArtifact:
    data = prepare_data(DataConfig(reader="digits", limit=150, shift=1))
    return train_model(role, ModelConfig(model="mlp", width=0.25), None, data, FIT, 5)


def of_training(role: str = "student") -> list:
    runs = tracking.client().search_runs([tracking.experiment()], f"tags.`slimline.stage` = 'train-{role}'")
    return sorted(runs, key=lambda run: run.info.start_time)


def test_paused_twice_it_has_the_weights_of_one_that_was_not_and_no_epoch_is_trained_twice(tmp_path, monkeypatch):
    with pausing(0.2), pytest.raises(Paused) as first:
        trained()
    with pausing(0.6), pytest.raises(Paused) as second:
        trained()
    assert [each.value.pause.epoch for each in (first, second)] == [1, 3]
    assert "after 3 of 5 epochs of train-student, at a validation score of " in str(second.value)
    artifact = trained()
    runs = of_training()
    assert [run.info.status for run in runs] == ["KILLED", "KILLED", "FINISHED"]
    curves = [epochs_of(run.info.run_id) for run in runs]
    assert [len(curve) for curve in curves] == [1, 3, 5]
    assert curves[1] == curves[2][:3]
    assert second.value.pause.score == max(epoch["validation_score"] for epoch in curves[1])
    seconds = [
        [point.value for point in tracking.client().get_metric_history(run.info.run_id, "seconds")] for run in runs
    ]
    assert seconds[2][:3] == seconds[1], "they are told again, not trained again"
    assert trained() == artifact, "it is there, and has nothing to pause"
    assert not (home() / "checkpoints").is_dir() or not list((home() / "checkpoints").iterdir())

    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / "other"))
    forget()
    assert trained().sha256 == artifact.sha256


def test_a_teacher_does_not_pause():
    with pausing(0.2):
        trained("teacher")
    assert [run.info.status for run in of_training("teacher")] == ["FINISHED"]


@pytest.mark.parametrize(
    ("share", "epochs", "after"),
    [(0.1, 30, 3), (0.1, 2, 1), (0.3, 10, 3), (0.9, 2, None), (0.5, 1, None), (1, 4, None)],
)
def test_it_is_due_once_after_one_epoch_at_least_and_never_after_the_last(share, epochs, after):
    with pausing(share):
        assert [epoch for epoch in range(1, epochs + 1) if is_due(epoch, epochs)] == ([after] if after else [])
    assert not any(is_due(epoch, epochs) for epoch in range(1, epochs + 1))
