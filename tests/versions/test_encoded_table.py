"""A version that learned from categories, dates and gaps takes new rows as they come, and answers as Keras does."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from registered import versions
from stores import run_at

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data

COLOURS = ("blue", "green", "red")


def sales(count: int, seed: int, colours: tuple[str, ...] = COLOURS) -> pd.DataFrame:
    """What width, colour and month say of a class; a tenth of the widths, and some colours, are missing."""
    random = np.random.default_rng(seed)
    when = pd.Timestamp("2023-01-01T08:00") + pd.to_timedelta(random.integers(0, 17_000, count), "h")
    frame = pd.DataFrame(
        {"width": random.normal(10, 2, count).round(2), "colour": random.choice(colours, count), "when": when}
    )
    score = (frame["width"] - 10) + 3.0 * (frame["colour"] == "red") - 0.5 * (frame["when"].dt.month - 6)
    frame["label"] = np.where(score > 1, "good", "bad")
    frame.loc[random.random(count) < 0.1, "width"] = np.nan
    frame.loc[random.random(count) < 0.05, "colour"] = None
    return frame


def inputs(frame: pd.DataFrame, fill: float) -> np.ndarray:
    """What the notes say that a model gets, by pandas alone."""
    when = frame["when"].dt
    return np.column_stack(
        [
            frame["width"].fillna(fill),
            frame["width"].isna(),
            *(frame["colour"] == colour for colour in COLOURS),
            frame["colour"].isna(),
            *(when.year, when.month, when.day, when.weekday, when.hour),
        ]
    ).astype(np.float32)


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store) -> Path:
    """The champion is a model of one's own, as it is, in ONNX; `own.keras` lies beside."""
    import tensorflow as tf

    from tasks.store import registry

    folder = tmp_path_factory.mktemp("state")
    sales(900, 0).to_csv(folder / "sales.csv", index=False)
    settings = {"reader": "table", "source": str(folder / "sales.csv"), "test": 0.3, "table": {"missing": "indicator"}}
    data = open_data(DataConfig(**settings))
    tf.keras.utils.set_random_seed(1)
    scale = tf.keras.layers.Normalization(mean=data.input.mean, variance=np.square(data.input.std))
    layers = [tf.keras.Input(data.input.shape), scale, tf.keras.layers.Dense(16, "relu")]
    model = tf.keras.Sequential([*layers, tf.keras.layers.Dense(2, "softmax")])
    model.compile(tf.keras.optimizers.legacy.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*data.arrays("train"), epochs=30, verbose=0)
    model.save(folder / "own.keras")
    own = {"model": str(folder / "own.keras"), "fit": {"epochs": 0}}
    made = {"teacher": own, "student": {"model": "teacher"}, "budget": {"max_accuracy_drop": 0.5}}
    with versions(folder, empty_store, {**made, "data": settings}):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield folder


def fill_of(uri: str = "models:/tiny/1") -> float:
    from tasks.drift.profile import open_profile
    from tasks.store import tracking

    return open_profile(tracking.download(uri)).encoding[0]["fill"][0]


def of_keras(home: Path, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    return tf.keras.models.load_model(home / "own.keras").predict(x, verbose=0)


def loaded():
    import mlflow

    from tasks.store import tracking

    tracking.client()
    return mlflow.pyfunc.load_model("models:/tiny/1")


def test_what_a_bundle_s_page_shows_makes_the_same_inputs_of_rows(home, tmp_path):
    from tasks.bundle import bundle
    from tasks.bundles.contents import BundleConfig, Contents
    from tasks.versions.registered import open_registered

    bundle(tmp_path, "docker", Contents("tiny", 1, open_registered("models:/tiny/1"), BundleConfig()))
    (shown,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    frame = sales(60, 2)[["width", "colour", "when"]]
    kept = {name: [None if pd.isna(value) else value for value in values] for name, values in frame.items()}
    rows = {**kept, "when": [str(moment) for moment in kept["when"]]}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    made = "slimline_columns.encoded(columns, json.load(open('rows.json')))"
    more = f"print(x.tolist())\nprint({made}.tolist())"
    done = subprocess.run(
        [sys.executable, "-c", f"{shown}\n{more}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    example, made = map(json.loads, done.stdout.splitlines())
    expected = inputs(frame, fill_of())
    assert np.shape(example) == (1, expected.shape[1])
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_rows_as_they_come_are_answered_as_by_keras(home):
    """Columns in another order, gaps, another column; a colour that is new has no input that is 1."""
    new = sales(300, 1, (*COLOURS, "mauve"))
    expected = of_keras(home, inputs(new, fill_of()))
    assert ((expected[:, 1] > 0.5) == (new["label"] == "good")).mean() > 0.8
    model = loaded()
    for rows in (
        new[["when", "label", "colour", "width"]],
        new.astype({"when": str}),
        new.astype({"colour": "category"}),
    ):
        with pytest.warns(UserWarning, match=r"column 'colour': \d+ of 300 values are categories that no training row"):
            answers = model.predict(rows)
        assert list(answers.columns) == ["bad", "good"]
        np.testing.assert_allclose(answers, expected, atol=1e-5)
    known = new[new["colour"] != "mauve"]
    expected = of_keras(home, inputs(known, fill_of()))
    np.testing.assert_allclose(model.predict(known.assign(colour=known["colour"] + " ")), expected, atol=1e-5)
    records = known.head(9).to_dict("records")
    np.testing.assert_allclose(model.predict(records), expected[:9], atol=1e-5)


def test_inputs_themselves_are_taken_too_and_the_example_is_one(home):
    new = sales(50, 2)
    x = inputs(new, fill_of())
    model = loaded()
    names = model.metadata.metadata["columns"]
    assert names[:3] == ["width", "width.missing", "colour=blue"]
    expected = of_keras(home, x)
    np.testing.assert_allclose(model.predict(pd.DataFrame(x, columns=names)), expected, atol=1e-5)
    np.testing.assert_allclose(next(iter(model.predict(x).values())), expected, atol=1e-5)
    assert model.predict(model.input_example).shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"when": 3}, "column 'when' holds int64, not what it did: give dates"),
        ({"when": "soon"}, "column 'when' holds (object|str), not what it did.*soon"),
        ({"when": None}, None),
        ({"width": "wide"}, "column 'width' holds (object|str), not what it did: give numbers"),
        ({"width": np.inf}, "column 'width' has infinite values"),
    ],
)
def test_what_is_no_such_row_is_refused_by_its_column(home, change, message):
    rows = sales(5, 3).assign(**change)
    if message is None:  # the rule fills dates too
        assert len(loaded().predict(rows)) == 5
        return
    with pytest.raises(ValueError, match=message):
        loaded().predict(rows)


def monitored(frame: pd.DataFrame, folder: Path):
    from flows.monitor import monitor
    from tasks.data.new import NewDataConfig
    from tasks.drift.limits import MonitorConfig
    from tasks.evidence.monitoring import open_monitoring
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    frame.to_parquet(folder / "new.parquet")
    config = MonitorConfig(latency_rounds=20, max_slowdown=100)
    result = monitor("tiny", NewDataConfig(reader="table", source=str(folder / "new.parquet")), config=config)
    (stage,) = stages_of(run_at(result.mlflow_url))
    return result, open_monitoring(tracking.download(f"runs:/{stage.run}/monitoring"))


def test_monitoring_reads_new_rows_by_what_was_learned(home, tmp_path):
    new = sales(500, 4, (*COLOURS, *COLOURS, "mauve"))
    new = new[new["label"].notna()]
    result, monitoring = monitored(new[["label", "when", "colour", "width"]], tmp_path)
    expected = of_keras(home, inputs(new, fill_of()))
    right = (expected.argmax(axis=1) == (new["label"] == "good")).mean()
    assert result.score == pytest.approx(right, abs=1e-6)
    mauve = (new["colour"] == "mauve").sum()
    assert any(f"{mauve} of 500 values are categories that no training row has" in note for note in monitoring.notes)
    assert any(f"lacks {new['width'].isna().sum()} of 500 values" in note for note in monitoring.notes)
    assert "colour=red" in {drift.name for drift in monitoring.inputs}
    with pytest.raises(DataError, match="no column 'colour', which the model knows"):
        monitored(new.drop(columns="colour"), tmp_path)


def test_other_categories_are_another_version():
    from tasks.data.artifact import DataArtifact
    from tasks.data.heads import Head
    from tasks.register import content_digest

    sha = "0" * 64
    head = Head(problem="classification", output_shape=(2,))
    data = DataArtifact(
        stage="prepare", sha256=sha, uri="", run="", digest=sha, input_shapes={"": (2,)}, heads=(head,), counts={}
    )
    encodings = [(), *([{"name": "a", "kind": "ids", "categories": names}] for names in (["x", "y"], ["y", "x"]))]
    assert len({content_digest({}, "recipe", data, ("a.id",), encoding) for encoding in encodings}) == 3


def test_a_champion_that_fills_or_numbers_otherwise_is_no_secret(home, tmp_path):
    import json
    from dataclasses import replace

    from flows.recipe_file import read_recipe
    from tasks.compare import compare
    from tasks.contract.errors import VersionError
    from tasks.drift.profile import FILE
    from tasks.store import tracking
    from tasks.versions.version import open_version

    candidate = open_version("models:/tiny/1", tracking.download("models:/tiny/1"))
    recipe = read_recipe(candidate.folder / "recipe.yaml")
    data = open_data(recipe.data)

    def altered(name: str, **changed: object):
        folder = tmp_path / name
        shutil.copytree(candidate.folder, folder)
        profile = json.loads((folder / FILE).read_text())
        profile["encoding"][0] |= changed
        (folder / FILE).write_text(json.dumps(profile))
        return replace(candidate, folder=folder)

    def compared(ours, theirs):
        return compare("tiny", {"candidate": (1, ours), "champion": (1, theirs)}, data, recipe.validation, seed=0)

    notes = compared(candidate, altered("fills", fill=[1, 0])).notes
    assert any("Missing values of width are filled for both as for the candidate" in note for note in notes)
    numbers = [altered(f"numbers {name}", kind="ids", categories=[name, "b"]) for name in ("a", "c")]
    with pytest.raises(VersionError, match="knows other category numbers"):
        compared(*numbers)
