"""A version that learned from a table, asked in MLflow and monitored by the names of its columns."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from registered import versions
from stores import run_at

from tasks.contract.errors import DataError

COLUMNS = ["width", "height", "age (years)", "weight"]  # one whose name MLflow takes for no metric
TABLE = {
    "name": "tiny",
    "teacher": {"model": "mlp", "fit": {"epochs": 8, "learning_rate": 0.01}},
    "student": {"model": "teacher"},
    "budget": {"max_accuracy_drop": 0.5},
}


def items(count: int, seed: int) -> pd.DataFrame:
    """Whole and other numbers of unlike scales, which tell three classes apart."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, count)
    x = random.normal(size=(count, 4)) + label[:, None] * [2, 0.5, -1, 2]
    frame = pd.DataFrame((x * [10, 100, 10, 5]).round(2), columns=COLUMNS)
    return frame.assign(weight=frame["weight"].round().astype(np.int64), label=label)


def homes(count: int, seed: int) -> pd.DataFrame:
    """Two targets, one a million times as large as the other."""
    random = np.random.default_rng(seed)
    size, age = random.normal(size=(2, count))
    price = 200_000 + 80_000 * size + random.normal(size=count) * 4_000
    return pd.DataFrame({"size": size, "age": age, "price": price, "vacancy": 0.3 * age + 0.1 * size})


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store) -> Path:
    """Version 1 is of items, version 2 of homes, version 3 of items whose columns stand in another order."""
    from tasks.store import registry

    folder = tmp_path_factory.mktemp("state")
    items(900, 0).to_csv(folder / "items.csv", index=False)
    homes(900, 0).to_csv(folder / "homes.csv")  # with the number of each row
    classes = {"reader": "table", "source": str(folder / "items.csv"), "test": 0.3}
    values = {
        "reader": "table",
        "source": str(folder / "homes.csv"),
        "problem": "regression",
        "target": "price,vacancy",
    }
    items(900, 5)[["label", *COLUMNS[::-1]]].to_csv(folder / "turned.csv", index=False)
    turned = {**classes, "source": str(folder / "turned.csv")}
    with versions(folder, empty_store, *({**TABLE, "data": data} for data in (classes, values, turned))):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield folder


def loaded(version: int):
    import mlflow

    from tasks.store import tracking

    tracking.client()
    return mlflow.pyfunc.load_model(f"models:/tiny/{version}")


@pytest.fixture(scope="module")
def expected(home) -> pd.DataFrame:
    """What the ONNX file itself answers to new items, by class."""
    import onnxruntime

    from tasks.store import tracking

    session = onnxruntime.InferenceSession(tracking.download("models:/tiny/1") / "model.onnx")
    x = items(300, 1)[COLUMNS].to_numpy(np.float32)
    return pd.DataFrame(session.run(None, {session.get_inputs()[0].name: x})[0], columns=["0", "1", "2"])


def test_a_frame_s_columns_are_taken_by_name_in_any_order(home, expected):
    model, new = loaded(1), items(300, 1)
    assert (expected.to_numpy().argmax(axis=1) == new["label"]).mean() > 0.7
    for names in (COLUMNS, COLUMNS[::-1], ["label", *COLUMNS[2:], "label", *COLUMNS[:2]]):
        pd.testing.assert_frame_equal(model.predict(new[names]), expected)
    shuffled = new.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(model.predict(shuffled), expected.loc[shuffled.index])


def test_numbers_of_any_type_are_taken_as_they_are(home, expected):
    model, new = loaded(1), items(300, 1)
    pd.testing.assert_frame_equal(model.predict(new.astype(object)), expected)
    pd.testing.assert_frame_equal(model.predict(new.astype({"weight": "Int64", "width": "float32"})), expected)
    exact = new.assign(width=[Decimal(str(value)) for value in new["width"]])
    pd.testing.assert_frame_equal(model.predict(exact), expected)
    whole = new.round()
    pd.testing.assert_frame_equal(model.predict(whole.astype(np.int64)), model.predict(whole))


def test_records_and_lists_by_name_and_tensors_as_they_stand(home, expected):
    model, new = loaded(1), items(300, 1)
    pd.testing.assert_frame_equal(model.predict(new.to_dict("list")), expected)
    pd.testing.assert_frame_equal(model.predict(new.to_dict("records")), expected)
    x = new[COLUMNS].to_numpy()
    for inputs in (x, x.astype(np.float32), x.tolist(), {"input": x}):
        (answers,) = model.predict(inputs).values()
        np.testing.assert_array_equal(answers, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda new: new.drop(columns="width"), "'width' are missing: the model takes width, height.*there are height"),
        (lambda new: new.rename(columns={"width": "Width"}), "'width' are missing.*there are Width"),
        (lambda new: pd.concat([new, new["width"]], axis=1), "'width' stand there twice"),
        (lambda new: new.assign(width="7"), "column 'width' holds (object|str).*not numbers"),
        (lambda new: new.assign(width=new["width"].astype(object).where(new.index > 0, "7")), "'width' holds object"),
        (lambda new: new.assign(width=new["width"] + 1j), "column 'width' holds complex128, not numbers"),
        (lambda new: new.assign(width=pd.Timestamp("2024-01-01")), "column 'width' holds datetime"),
        (lambda new: new.assign(width=np.where(new.index == 3, np.nan, 1.0)), "column 'width' holds missing"),
        (lambda new: new.assign(width=1e300), "column 'width' holds missing values, infinity, or numbers"),
        (lambda new: new[COLUMNS].to_numpy()[:, :3], r"shape \(300, 3\): the model takes numbers \(n, 4\)"),
    ],
)
def test_what_is_no_such_table_is_refused_by_the_column_s_name(home, change, message):
    with pytest.raises(ValueError, match=message):
        loaded(1).predict(change(items(300, 1)))


def test_the_names_are_told_where_people_look(home):
    model = loaded(1)
    assert model.metadata.metadata == {"columns": COLUMNS}
    assert list(model.input_example.columns) == COLUMNS
    assert model.predict(model.input_example).shape == (2, 3)


def test_mlflow_s_own_way_asks_a_table_too(home, tmp_path):
    """As a registered version is tried before it is promoted: in a process of its own, with a tensor in JSON."""
    from tasks.smoke_test import smoke
    from tasks.versions.registered import open_registered

    result = smoke("models:/tiny/1", open_registered("models:/tiny/1"), tmp_path)
    assert result.largest_difference < 1e-6


def monitored(frame: pd.DataFrame, folder: Path, **data):
    from flows.monitor import monitor
    from tasks.data.new import NewDataConfig
    from tasks.drift.limits import MonitorConfig
    from tasks.evidence.monitoring import open_monitoring
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    frame.to_csv(folder / "new.csv", index=False)
    config = MonitorConfig(latency_rounds=20, max_slowdown=100)
    result = monitor("tiny", NewDataConfig(reader="table", source=str(folder / "new.csv"), **data), config=config)
    (stage,) = stages_of(run_at(result.mlflow_url))
    metrics = tracking.client().get_run(stage.run).data.metrics
    return result, open_monitoring(tracking.download(f"runs:/{stage.run}/monitoring")), metrics


def test_a_table_in_another_order_is_healthy_and_a_column_more_is_noted(home, tmp_path):
    new = items(600, 2)
    result, monitoring, metrics = monitored(new.assign(color="red")[["color", "label", *COLUMNS[::-1]]], tmp_path)
    assert (result.degraded, result.reasons) == (False, ())
    assert {drift.name for drift in monitoring.inputs} == set(COLUMNS)
    assert "Columns that the model does not know are left out: color." in monitoring.notes
    assert "drift/input/age _years_" in metrics


def test_a_column_that_drifted_is_named(home, tmp_path):
    new = items(600, 2)
    result, monitoring, _ = monitored(
        new.assign(**{COLUMNS[2]: new[COLUMNS[2]] + 30}).drop(columns="label"), tmp_path, labels=False
    )
    assert [drift.name for drift in monitoring.inputs if drift.drifted] == [COLUMNS[2]]
    assert any("column age (years) has moved by" in reason for reason in result.reasons)


def test_a_renamed_column_is_refused_by_name(home, tmp_path):
    with pytest.raises(DataError, match=r"no column 'width'.*it has Width, height, age \(years\), weight, label"):
        monitored(items(600, 2).rename(columns={"width": "Width"}), tmp_path)


def test_both_of_two_targets_are_learned_and_each_has_its_own_score(home, tmp_path):
    from tasks.drift.profile import open_profile
    from tasks.store import registry, tracking

    new = homes(600, 3)
    profile = open_profile(tracking.download("models:/tiny/2"))
    assert (profile.columns, profile.target_columns) == (("size", "age"), ("price", "vacancy"))
    answers = loaded(2).predict(new)
    assert list(answers.columns) == ["price", "vacancy"]
    for name in answers:
        r2 = 1 - np.square(answers[name] - new[name]).mean() / new[name].var()
        assert r2 > 0.9, name
        assert profile.scores[name].estimate == pytest.approx(r2, abs=0.05)
    registry.set_alias("tiny", registry.CHAMPION, 2)
    try:
        result, monitoring, metrics = monitored(new[new.columns[::-1]], tmp_path)
        assert not result.degraded
        worse, _, _ = monitored(new.assign(vacancy=new["vacancy"] + np.where(new.index % 2, 0.1, -0.1)), tmp_path)
    finally:
        registry.set_alias("tiny", registry.CHAMPION, 1)
    assert set(monitoring.decays) == {"price", "vacancy"}
    assert metrics["decay/vacancy"] == pytest.approx(monitoring.decays["vacancy"].estimate)
    assert [drift.name for drift in monitoring.targets] in (["price", "vacancy"], ["vacancy", "price"])
    assert any("the score of vacancy lies" in reason for reason in worse.reasons)
    assert not any("the score of price" in reason for reason in worse.reasons)


def test_a_champion_is_compared_by_its_columns_names(home):
    """Asked by their places it would be little better than guessing, and lose to anything."""
    from flows.recipe_file import read_recipe
    from tasks.compare import compare
    from tasks.contract.errors import VersionError
    from tasks.data import open_data
    from tasks.versions.version import open_version

    def version(number: int):
        from tasks.store import tracking

        uri = f"models:/tiny/{number}"
        return open_version(uri, tracking.download(uri))

    candidate, champion = version(3), version(1)
    recipe = read_recipe(candidate.folder / "recipe.yaml")
    data = open_data(recipe.data)
    assert data.columns == tuple(COLUMNS[::-1])
    both = {"candidate": (3, candidate), "champion": (1, champion)}
    (pair,) = compare("tiny", both, data, recipe.validation, seed=0).pairs
    assert pair.champion.accuracy.estimate == pytest.approx(champion.default().accuracy.estimate, abs=0.06)
    assert pair.candidate.accuracy.estimate == candidate.default().accuracy.estimate
    renamed = both | {"champion": (1, _renamed(champion, home / "renamed"))}
    with pytest.raises(VersionError, match="knows other columns than models:/tiny/3: Width, height"):
        compare("tiny", renamed, data, recipe.validation, seed=0)


def _renamed(version, folder: Path):
    """A version that learned from a column of another name."""
    import json
    import shutil
    from dataclasses import replace

    from tasks.drift.profile import FILE

    shutil.copytree(version.folder, folder)
    profile = json.loads((folder / FILE).read_text())
    profile["columns"][0] = "Width"
    (folder / FILE).write_text(json.dumps(profile))
    return replace(version, folder=folder)


def test_another_name_is_another_version(home):
    from tasks.data.artifact import DataArtifact
    from tasks.register import content_digest

    sha = "0" * 64
    data = DataArtifact(
        stage="prepare", sha256=sha, uri="", run="", digest=sha, input_shapes={"": (2,)}, heads=(), counts={}
    )
    digests = {content_digest({}, "recipe", data, columns) for columns in ((), ("a", "b"), ("b", "a"))}
    assert len(digests) == 3
