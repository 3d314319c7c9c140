"""Trials are the same whoever asks for them and however often that is killed; none is lost, none is made twice."""

import random
from pathlib import Path

import pytest
from killed_writes import kills_until_done
from made_outcomes import outcome

from tasks.contract.errors import StoreError
from tasks.search.space import Space
from tasks.search.study import Outcome, Study

SPACE = Space(
    settings={
        "student.width": {"low": 0.25, "high": 2.0, "log": True},
        "prune.method": ["none", "channels"],
        "prune.channels.remove": {"low": 0.1, "high": 0.6, "when": {"prune.method": "channels"}},
    },
    trials=14,
    first=4,
    batch=3,
)
ABOUT = {"recipe": "name: a"}


def made(settings: dict) -> Outcome:
    """What a trial comes to: of its settings alone."""
    width, cut = settings["student.width"], settings.get("prune.channels.remove", 0.0)
    if width > 1.7:
        return Outcome(how="failed", why="too wide")
    size = int(10_000 * width * (1 - cut))
    misses = {"max_size_bytes": 1 - 12_000 / size} if size > 12_000 else {}
    how = "rejected" if size > 15_000 else "measured"
    return outcome(drop=0.02 / width + 0.05 * cut, size=size, speedup=20_000 / size, misses=misses, how=how)


def finished(study: Study) -> list[tuple]:
    while batch := study.batch():
        for trial in batch:
            study.tell(trial.number, made(trial.settings))
    return told(study)


def told(study: Study) -> list[tuple]:
    return [(trial.number, trial.settings, trial.outcome) for trial in study.trials()]


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMLINE_HOME", str(tmp_path_factory.mktemp("whole")))
        return finished(Study(ABOUT, SPACE, {}, 5))


def test_as_many_as_asked_for_and_each_told_once(whole):
    assert [number for number, _, _ in whole] == list(range(1, 15))
    assert {outcome.how for _, _, outcome in whole} == {"measured", "rejected", "failed"}


def test_in_any_order_of_telling_they_are_the_same(state, whole):
    study, draw = Study(ABOUT, SPACE, {}, 5), random.Random(3)
    while batch := study.batch():
        draw.shuffle(batch)
        for trial in batch:
            study.tell(trial.number, made(trial.settings))
    assert told(study) == whole


def test_a_search_of_fewer_trials_goes_on_with_more(state, whole):
    few = SPACE.model_copy(update={"trials": 6})
    assert finished(Study(ABOUT, few, {}, 5)) == whole[:6]
    assert finished(Study(ABOUT, SPACE, {}, 5)) == whole


def test_what_was_told_stays(state):
    study = Study(ABOUT, SPACE, {}, 5)
    first, *_ = study.batch()
    study.tell(first.number, made(first.settings))
    study.tell(first.number, Outcome(how="failed", why="told again"))
    assert study.trials()[0].outcome == made(first.settings)


def test_another_recipe_seed_or_space_is_another_study(state):
    names = {
        Study(about, space, {}, seed).name
        for about, space, seed in [
            (ABOUT, SPACE, 5),
            ({"recipe": "name: b"}, SPACE, 5),
            (ABOUT, SPACE, 6),
            (ABOUT, SPACE.model_copy(update={"batch": 4}), 5),
            (ABOUT, SPACE.model_copy(update={"trials": 99}), 5),
        ]
    }
    assert len(names) == 4, "more trials are the same one"


def search_to_its_end() -> None:
    finished(Study(ABOUT, SPACE, {}, 5))


def test_killed_at_any_write_it_goes_on_as_if_it_had_not_been(state, whole):
    """Again and again after so many writes: 6, then 4, then 10 …, until it comes to its end."""
    draw = random.Random(1)
    assert kills_until_done(Path(__file__), (draw.randint(2, 17) for _ in range(60))) >= 5
    assert told(Study(ABOUT, SPACE, {}, 5)) == whole


def test_nsga2_too_is_the_same_again(tmp_path, monkeypatch):
    space = SPACE.model_copy(update={"sampler": "nsga2", "batch": 4, "trials": 12})
    found = []
    for name in ("one", "two"):
        monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / name))
        found.append(finished(Study(ABOUT, space, {}, 5)))
    assert found[0] == found[1]
    assert len({str(settings) for _, settings, _ in found[0]}) > 6


def test_a_database_that_cannot_be_opened_is_named(state, monkeypatch):
    monkeypatch.setenv("SLIMLINE_STUDIES", f"sqlite:///{state}/nowhere/at/all.db")
    with pytest.raises(StoreError, match=r"SLIMLINE_STUDIES\) cannot be opened"):
        Study(ABOUT, SPACE, {}, 5)
