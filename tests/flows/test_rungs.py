"""A batch climbs its rungs: the same trials go on and stop wherever it was killed, and each is told once."""

import random
from pathlib import Path

import pytest
from killed_writes import kills_until_done
from made_outcomes import outcome, waiting

from flows.rungs import climbed
from tasks.search.space import Space
from tasks.search.study import Asked, Outcome, Study, Trial

SPACE = Space(
    settings={"student.width": {"low": 0.25, "high": 2.0, "log": True}, "distill.mix": {"low": 0.1, "high": 0.9}},
    trials=9,
    batch=9,
    first=6,
    rungs=(0.1, 0.3),
)


def attempt(asked: Asked, share: float) -> Outcome:
    """What a trial comes to: of its settings alone; some are refused, too large, or have nothing to train."""
    width, mix = float(asked.settings["student.width"]), float(asked.settings["distill.mix"])
    if mix > 0.85:
        return Outcome(how="failed", why="refused")
    size, speedup = int(10_000 * width), 2 / width
    if width > 1.8:
        return outcome(how="rejected", drop=0.9, size=size, speedup=speedup, misses={"max_size_bytes": 0.1})
    if share == 1 or mix < 0.15:
        return outcome(drop=0.02 / width, size=size, speedup=speedup)
    return waiting(score=1 - mix / width / (1 + 10 * share), size=size, speedup=speedup, epoch=round(20 * share))


class Told:
    """Attempts, as they were made."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float]] = []

    def __call__(self, asked: Asked, share: float) -> Outcome:
        self.calls.append((asked.number, share))
        return attempt(asked, share)


def searched(study: Study, made=attempt) -> list[Trial]:
    while batch := study.batch():
        for _ in climbed(study, batch, made):
            pass
    return study.trials()


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMLINE_HOME", str(tmp_path_factory.mktemp("whole")))
        yield Study({}, SPACE, {}, 1)


@pytest.fixture(scope="module")
def calls(study) -> list[tuple[int, float]]:
    """What is attempted in a search that nothing interrupts."""
    made = Told()
    searched(study, made)
    return made.calls


@pytest.fixture(scope="module")
def whole(study, calls) -> list[Trial]:
    return study.trials()


def test_a_third_goes_on_from_each_rung(whole, calls):
    at = {share: [number for number, each in calls if each == share] for share in (0.1, 0.3, 1)}
    assert at[0.1] == [trial.number for trial in whole] == list(range(1, 10))
    waited = [trial.number for trial in whole if attempt(trial, 0.1).how == "paused"]
    assert len(waited) >= 6
    assert len(at[0.3]) == len(waited) // 3
    assert len(at[1]) == 1
    assert [trial.number for trial in whole if trial.outcome.how == "stopped"] == sorted(set(waited) - set(at[1]))
    for trial in whole:
        if trial.outcome.how == "stopped":
            epochs = max(round(20 * share) for number, share in calls if number == trial.number)
            assert trial.outcome.reached.epoch == epochs
            assert trial.outcome.why.startswith(
                f"stopped after {epochs} of 20 epochs of distill, at a validation score"
            )


def test_samplers_are_told_of_it_as_of_what_was_pruned(study, whole):
    expected = {"measured": "COMPLETE", "rejected": "COMPLETE", "failed": "FAIL", "stopped": "PRUNED"}
    states = {trial.number + 1: trial.state.name for trial in study.study.get_trials(deepcopy=False)}
    assert states == {trial.number: expected[trial.outcome.how] for trial in whole}


def test_interrupted_between_a_rung_s_decision_and_what_follows_the_decision_stays(state, whole, calls, monkeypatch):
    decided = Study.go_on

    def interrupted(*args):
        decided(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Study, "go_on", interrupted)
        with pytest.raises(KeyboardInterrupt):
            searched(Study({}, SPACE, {}, 1))
    monkeypatch.setattr("flows.rungs.going_on", lambda waiting, *_: [trial.number for trial in waiting])
    again = Told()
    trials = searched(Study({}, SPACE, {}, 1), again)
    went_on = [call for call in calls if call[1] == 0.3]
    assert [call for call in again.calls if call[1] < 1] == went_on, "none is made again, and none more goes on"
    first = {trial.number for trial in whole} - {number for number, _ in went_on}
    assert [trial for trial in trials if trial.number in first] == [each for each in whole if each.number in first]


def test_trials_that_join_a_batch_later_are_decided_about_by_themselves(state):
    few = SPACE.model_copy(update={"trials": 4})
    searched(Study({}, few, {}, 1))
    study, made = Study({}, SPACE.model_copy(update={"trials": 8}), {}, 1), Told()
    trials = searched(study, made)
    assert {number for number, _ in made.calls} == {5, 6, 7, 8}
    assert "measured" in {trial.outcome.how for trial in trials[4:]}


def search_to_its_end() -> None:
    searched(Study({}, SPACE, {}, 1))


@pytest.mark.slow
def test_killed_at_any_write_the_same_go_on_and_the_same_are_stopped(state, whole):
    draw = random.Random(1)
    assert kills_until_done(Path(__file__), (draw.randint(2, 12) for _ in range(60))) >= 5
    assert Study({}, SPACE, {}, 1).trials() == whole
