"""What a space may say, and what is drawn from it."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.recipe_file import read_space
from flows.shipped import SPACES
from tasks.contract.errors import RecipeError
from tasks.search.space import Choice, Goal, Space
from tasks.zoo import ARCHITECTURES


def refused(tmp_path, text: str) -> str:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as refusal:
        read_space(file)
    return str(refusal.value)


def drawn(space: Space, fixed: dict, count: int = 40) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggested(study.ask(), fixed, lambda name: None) for _ in range(count)]


def test_a_list_is_its_values_and_a_range_lies_between():
    space = Space(
        settings={
            "kind": ["cnn", "mlp"],
            "width": {"low": 0.25, "high": 2, "log": True},
            "epochs": {"low": 10, "high": 40, "step": 10},
        }
    )
    all_drawn = drawn(space, {})
    assert {each["kind"] for each in all_drawn} == {"cnn", "mlp"}
    assert {each["epochs"] for each in all_drawn} == {10, 20, 30, 40}
    assert all(isinstance(each["epochs"], int) and isinstance(each["width"], float) for each in all_drawn)
    widths = [each["width"] for each in all_drawn]
    assert 0.25 <= min(widths) < 0.5
    assert 1 < max(widths) <= 2


@given(low=st.floats(1e-6, 10), span=st.floats(0, 100), log=st.booleans())
@settings(deadline=None, max_examples=50)
def test_what_is_drawn_of_a_range_is_inside_and_short_enough_to_type(low, span, log):
    space = Space(settings={"x": {"low": low, "high": low + span, "log": log}})
    for each in drawn(space, {}, 5):
        assert low <= each["x"] <= low + span
        assert each["x"] in (low, low + span) or float(f"{each['x']:.4g}") == each["x"]


def test_a_setting_with_a_condition_is_drawn_where_it_holds():
    space = Space(
        settings={
            "cut": ["none", "channels"],
            "share": {"low": 0.1, "high": 0.6, "when": {"cut": "channels"}},
            "width": {"values": [1, 2], "when": {"model": ["cnn", "mlp"], "cut": "none"}},
        }
    )
    for model in ("cnn", "resnet8"):
        for each in drawn(space, {"model": model, "cut": "channels"}):
            assert ("share" in each) == (each["cut"] == "channels"), "what is drawn counts, not what the recipe has"
            assert ("width" in each) == (each["cut"] == "none" and model == "cnn")


def test_goals_name_a_figure_and_whose():
    assert Space(settings={"x": [1]}, goals=["accuracy", "litert/size"]).aims == (
        Goal("", "accuracy"),
        Goal("litert", "size"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {}", "settings: {}: dictionary should have at least 1 item"),
        ("settings: {x: []}", "settings.x: []: write a list of values, or {low: …, high: …}"),
        ("settings: {x: {low: 2, high: 1}}", "write `low` and `high`, the lower one first"),
        ("settings: {x: {low: 0, high: 1, log: true}}", "`log` needs a `low` above 0, and no `step`"),
        ("settings: {x: {values: [1], log: true}}", "`step` and `log` are of a range"),
        ("settings: {x: {lo: 1}}", "settings.x.lo: 1: there is no such setting; did you mean `low`?"),
        ("settings: {x: {values: [1], when: {y: 2}}, y: [2]}", "settings.x: `when` names y: write that one above it"),
        ("settings: {x: [1]}\ngoals: [speed]", "goals: speed: write accuracy, size or latency"),
        ("settings: {x: [1]}\ngoals: [size, size]", "goals: name each one once"),
        ("settings: {x: [1]}\nrungs: [0.3, 0.1]", "rungs: write the lower one first, and each one once"),
        ("settings: {x: [1]}\nrungs: [1]", "rungs.0: 1: input should be less than 1"),
        ("settings: {x: [1]}\ntrails: 3", "trails: 3: there is no such setting; did you mean `trials`?"),
    ],
)
def test_what_is_no_space_is_refused_with_what_to_write(tmp_path, text, message):
    assert message in refused(tmp_path, text)


def test_a_space_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(RecipeError, match="shipped one: default"):
        read_space(SPACES["default"].with_name("nothing.yaml"))


def test_the_default_space_knows_every_architecture():
    space = read_space(SPACES["default"])
    assert isinstance(space.settings["student.width"], Choice)
    assert set(space.settings["student.width"].when["student.model"]) == set(ARCHITECTURES)
