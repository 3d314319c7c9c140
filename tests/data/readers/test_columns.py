"""A table's columns that are no numbers, and its gaps: what they become, and that new rows become the same."""

import datetime
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from new_rows import new_rows

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, describe, open_data
from tasks.formats.slimline_pyfunc import File, Table, TensorSpec

ROWS = 120


def frame(count: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Numbers, categories, dates and classes; nothing is missing."""
    random = np.random.default_rng(seed)
    days = pd.Timestamp("2023-01-01") + pd.to_timedelta(random.integers(0, 700, count), "D")
    return pd.DataFrame(
        {
            "width": random.normal(10, 2, count).round(3),
            "colour": random.choice(["red", "green", "blue"], count),
            "when": days.astype("datetime64[s]"),
            "label": random.integers(0, 2, count),
        }
    )


def written(rows: pd.DataFrame, path: Path, **options: object) -> DataConfig:
    rows.to_csv(path, index=False)
    return DataConfig(reader="table", source=str(path), **options)


def every(data: Dataset) -> np.ndarray:
    """All examples, in an order of their content."""
    x = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    return x[np.lexsort(x.T)]


def test_categories_and_dates_are_inputs_by_name_and_the_notes_say_so(tmp_path: Path) -> None:
    table = frame()
    data = open_data(written(table, tmp_path / "d.csv"))
    colours = ("colour=blue", "colour=green", "colour=red")
    assert data.columns == ("width", *colours, "when.year", "when.month", "when.day", "when.weekday")
    assert data.notes == (
        "Column `colour` has 3 categories, an input each: blue, green, red.",
        "Column `when` is a date, and becomes numbers: year, month, day, weekday (Monday is 0).",
    )
    when = table["when"].dt
    expected = np.column_stack(
        [
            table["width"],
            *(table["colour"] == name.split("=")[1] for name in colours),
            *(when.year, when.month, when.day, when.weekday),
        ]
    ).astype(np.float32)
    np.testing.assert_array_equal(every(data), expected[np.lexsort(expected.T)])


def test_ids_count_from_1_and_0_is_what_no_training_row_has(tmp_path: Path) -> None:
    config = written(frame()[["width", "colour", "label"]], tmp_path / "d.csv", table={"categories": "ids"})
    data = open_data(config)
    assert data.columns == ("width", "colour.id")
    assert data.notes == (
        "Column `colour` has 3 categories, numbered from 1 in this order: blue, green, red. 0 is any other.",
    )
    others = frame(30, seed=1)[["label", "colour", "width"]].assign(colour=["red", "mauve", "blue"] * 10)
    new = new_rows(data, config.model_copy(update={"source": written(others, tmp_path / "n.csv").source}))
    np.testing.assert_array_equal(new.x[:, 1], [3, 0, 1] * 10)
    assert new.notes == (
        "Column `colour`: 10 of 30 values are categories that no training row has, such as 'mauve': its number is 0 "
        "there.",
    )


@pytest.mark.parametrize("rule", ["mean", "median", "zero", "indicator"])
def test_gaps_are_filled_from_the_training_rows_alone_and_alike_in_new_rows(tmp_path: Path, rule: str) -> None:
    table = frame()
    table.loc[::7, "width"] = np.nan
    table.loc[3::9, "colour"] = None
    table.loc[5::11, "when"] = pd.NaT
    config = written(table, tmp_path / "d.csv", table={"missing": rule})
    data = open_data(config)
    width = data.columns.index("width")
    x = data.arrays("train")[0]
    fill = np.float32(data.encoding[0].fill[0])
    filled = x[:, width] == fill
    kept = x[~filled, width]
    right = {"mean": kept.mean(), "indicator": kept.mean(), "median": np.median(kept), "zero": 0}[rule]
    assert fill == pytest.approx(right, abs=1e-5)
    assert filled.sum() >= 8
    if rule == "indicator":
        np.testing.assert_array_equal(x[:, data.columns.index("width.missing")], filled)
    blank = x[:, [data.columns.index(f"colour={name}") for name in ("blue", "green", "red")]].sum(axis=1) == 0
    assert 5 <= blank.sum() <= 14
    again = new_rows(data, config)
    np.testing.assert_array_equal(again.x[np.lexsort(again.x.T)], every(data))
    assert sum("filled as in training" in note for note in again.notes) == 3


def test_rows_with_gaps_are_dropped_where_that_is_wanted(tmp_path: Path) -> None:
    table = frame()
    table.loc[:4, "width"] = np.nan
    table.loc[5:6, "colour"] = ""
    table["label"] = table["label"].astype("Int64")
    table.loc[10, "label"] = pd.NA
    config = written(table, tmp_path / "d.csv", table={"missing": "drop"})
    data = open_data(config)
    assert sum(data.counts.values()) == ROWS - 8
    assert "Rows with missing values are left out: 8 of 120." in data.notes
    new = new_rows(data, config)
    assert (len(new.x), new.notes[0]) == (ROWS - 8, "Rows with missing values are left out: 8 of 120.")


def test_a_category_that_no_training_row_has_is_no_input(tmp_path: Path) -> None:
    """Its input would be 0 in training, and what a model makes of a 1 there is chance."""
    table = frame()
    for config in (
        written(
            table.assign(colour=[*["red", "blue"] * 59, "rare", "rarer"]), tmp_path / f"d{seed}.csv", split_seed=seed
        )
        for seed in range(6)
    ):
        data = open_data(config)
        for name in ("rare", "rarer"):
            if f"colour={name}" in data.columns:
                assert data.arrays("train")[0][:, data.columns.index(f"colour={name}")].any()
            else:
                assert any("no training row has" in note for note in data.notes)


def test_no_two_splits_share_an_example_also_where_learning_made_them_alike(tmp_path: Path) -> None:
    """What has a category that no training row has becomes what has none."""
    place = np.arange(ROWS)
    rows = pd.DataFrame({"place": place % 20, "label": place % 2})
    rows["colour"] = np.where(place < 60, None, np.where(place < 64, "rare", np.where(place % 3 == 0, "red", "blue")))
    alike = []
    for seed in range(8):
        config = written(rows, tmp_path / f"{seed}.csv", split_seed=seed, test=0.4, table={"missing": "zero"})
        data = open_data(config)
        contents = [set(map(bytes, data.arrays(split)[0])) for split in ("train", "validation", "test")]
        assert sum(map(len, contents)) == len(set.union(*contents))
        alike.append("colour=rare" not in data.columns)
    assert any(alike)


def test_a_test_set_of_its_own_tells_its_new_categories(tmp_path: Path) -> None:
    test = written(frame(40, seed=3).assign(colour="mauve"), tmp_path / "t.csv").source
    data = open_data(written(frame(), tmp_path / "d.csv", test_source=test))
    assert any("40 of 40 values of test are categories that no training row has" in note for note in data.notes)
    assert not data.arrays("test")[0][:, 1:4].any()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"id": [f"u{n}" for n in range(ROWS)]}, {}, r"id: 120 texts.*data.input: width, colour, when"),
        (
            {"town": [f"t{n // 2}" for n in range(ROWS)]},
            {"max_categories": 59},
            r"town: 60 categories.*max_categories: 60",
        ),
        ({"day": ["3.1.2024", "4.1.2024"] * 60}, {}, r"'day': looks like dates.*data.table.date_format"),
        (
            {"gap": [None, *range(ROWS - 1)]},
            {},
            r"column 'gap' has missing values; write data.table.missing: drop, mean",
        ),
        ({"gap": [None] * ROWS}, {"missing": "mean"}, r"column 'gap' has no value.*data.input"),
        ({"big": [1e300] * ROWS}, {}, "column 'big' has infinite values"),
        ({"colour=red": range(ROWS)}, {}, r"'colour=red': two inputs would have this name"),
        ({}, {"date_format": "%Y"}, r"data.table.date_format: '%Y': no column is written so.*colour, when"),
        ({}, {"categorical": "size"}, r"data.table.categorical: 'size'.*width, colour, when"),
    ],
)
def test_what_is_no_input_is_refused_with_what_to_write(tmp_path, change, options, message) -> None:
    with pytest.raises(DataError, match=message):
        open_data(written(frame().assign(**change), tmp_path / "d.csv", table=options))


def test_what_a_refusal_says_to_write_is_taken(tmp_path: Path) -> None:
    table = frame().assign(id=[f"u{n}" for n in range(ROWS)], town=[f"t{n // 2}" for n in range(ROWS)])
    table = table.assign(day=["3.1.2024", "4.2.2024"] * 60)
    config = written(table, tmp_path / "d.csv", input="width, town, day")
    options = {"max_categories": 60, "date_format": "%d.%m.%Y"}
    data = open_data(config.model_copy(update={"table": config.table.model_copy(update=options)}))
    assert set(data.columns) >= {"width", "town=t3", "day.month", "day.day"}
    ids = config.table.model_copy(update={"categories": "ids", "date_format": "%d.%m.%Y"})
    assert open_data(config.model_copy(update={"table": ids})).columns[:2] == ("width", "town.id")


def test_a_regressions_target_with_marks_for_gaps(tmp_path: Path) -> None:
    table = frame()[["width", "label"]].astype({"label": object})
    table.loc[4, "label"] = "?"
    config = written(table, tmp_path / "d.csv", problem="regression")
    with pytest.raises(DataError, match=r"column 'label' has missing values; drop such rows, data.table.missing: drop"):
        open_data(config)
    dropped = config.model_copy(update={"table": config.table.model_copy(update={"missing": "drop"})})
    assert sum(open_data(dropped).counts.values()) == ROWS - 1
    table.loc[4, "label"] = "many"
    with pytest.raises(DataError, match=r"column 'label'.*holds text among its numbers.*many.*data.target"):
        open_data(written(table, tmp_path / "e.csv", problem="regression"))


def test_codes_are_categories_where_that_is_wanted(tmp_path: Path) -> None:
    table = frame().assign(code=["01", "02", "2"] * 40)
    config = written(table, tmp_path / "d.csv", table={"categorical": "code"})
    assert set(open_data(config).columns) >= {"code=01", "code=02", "code=2"}
    table.astype({"code": int}).to_parquet(tmp_path / "d.parquet")
    numbers = config.model_copy(update={"source": str(tmp_path / "d.parquet")})
    assert {name for name in open_data(numbers).columns if "code" in name} == {"code=1", "code=2"}


def test_texts_that_are_numbers_are_numbers_but_no_codes(tmp_path: Path) -> None:
    table = frame()[["label"]].assign(size=[f" {n % 7}" for n in range(ROWS)], post=["01067", "53111"] * 60)
    table.to_parquet(tmp_path / "d.parquet")
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "d.parquet")))
    assert data.columns == ("size", "post=01067", "post=53111")
    assert data.notes[0] == "Column `size` has numbers as text: they are read as numbers."
    table.assign(size=[b"x"] * ROWS).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"'size': holds binary, and neither numbers nor texts nor dates; .*data.input"):
        open_data(DataConfig(reader="table", source=str(tmp_path / "d.parquet")))


def test_times_are_in_utc_and_their_hours_count(tmp_path: Path) -> None:
    stamps = pd.date_range("2024-03-01T22:30", periods=ROWS, freq="17h", tz="Europe/Berlin")
    pd.DataFrame({"at": stamps, "label": np.arange(ROWS) % 2}).to_parquet(tmp_path / "d.parquet")
    texts = pd.DataFrame({"at": [stamp.isoformat() for stamp in stamps], "label": np.arange(ROWS) % 2})
    read = [
        open_data(DataConfig(reader="table", source=str(tmp_path / "d.parquet"))),
        open_data(written(texts, tmp_path / "d.csv")),
    ]
    assert read[0].digest == read[1].digest
    x = read[0].arrays("train")[0]
    utc = stamps.tz_convert("UTC")
    assert read[0].columns == ("at.month", "at.day", "at.weekday", "at.hour")
    assert set(map(tuple, x)) <= set(zip(utc.month, utc.day, utc.weekday, utc.hour, strict=True))


NAMES = st.sampled_from(["a", "b", "Ünï", "c,d", 'say "x"', "NA", "true"])
CELLS = {
    "number": st.one_of(st.none(), st.floats(-1e6, 1e6, width=32).map(lambda value: round(value, 3) + 0.0)),
    "whole": st.one_of(st.none(), st.integers(-1000, 1000)),
    "name": st.one_of(st.none(), NAMES),
    "day": st.one_of(st.none(), st.dates(datetime.date(1960, 1, 1), datetime.date(2060, 1, 1))),
    "time": st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2030, 1, 1)).map(
        lambda value: value.replace(microsecond=0)
    ),
    "flag": st.booleans(),
}
TYPES = {
    "number": pa.float64(),
    "whole": pa.int64(),
    "name": pa.string(),
    "day": pa.date32(),
    "time": pa.timestamp("s"),
    "flag": pa.bool_(),
}


def write(table: pa.Table, folder: Path, kind: str) -> Path:
    path = folder / f"d{kind}"
    if kind == ".parquet":
        pq.write_table(table, path)
    elif kind == ".orc":
        pyarrow.orc.write_table(table, path)
    elif kind.startswith(".csv"):
        table.to_pandas(date_as_object=True).to_csv(path, index=False)
    elif kind == ".jsonl":
        table.to_pandas(date_as_object=True).to_json(path, orient="records", lines=True, date_format="iso")
    else:
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t"))
    return path


@settings(max_examples=30)
@given(st.data())
def test_any_table_is_the_same_numbers_in_every_kind_of_file(tmp_path_factory, data) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4, unique=True))
    columns = {kind: data.draw(st.lists(CELLS[kind], min_size=30, max_size=30)) for kind in kinds}
    table = pa.table({kind: pa.array(values, TYPES[kind]) for kind, values in columns.items()})
    table = table.append_column("label", pa.array([n % 2 for n in range(30)]))
    folder = tmp_path_factory.mktemp("tables")
    missing = {"missing": data.draw(st.sampled_from(["zero", "drop", "mean", "indicator"]))}
    answers = set()
    for kind in (".parquet", ".csv", ".orc", ".jsonl", ".tsv", ".csv.gz"):
        header = {} if kind in (".parquet", ".orc", ".jsonl") else {"header": "names"}
        config = DataConfig(reader="table", source=str(write(table, folder, kind)), table={**missing, **header})
        try:
            opened = open_data(config)
        except DataError as error:
            answers.add(type(error).__name__)
            continue
        answers.add((opened.columns, opened.digest))
    event("refused" if answers == {"DataError"} else "read")
    assert len(answers) == 1, answers


@settings(max_examples=30)
@given(st.data())
def test_rows_asked_in_mlflow_and_rows_monitored_become_the_numbers_of_training(tmp_path_factory, data) -> None:
    """By the profile's JSON alone, in any order of the columns."""
    kinds = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4, unique=True))
    columns = {kind: data.draw(st.lists(CELLS[kind], min_size=30, max_size=30)) for kind in kinds}
    table = pa.table({kind: pa.array(values, TYPES[kind]) for kind, values in columns.items()})
    table = table.append_column("label", pa.array([n % 2 for n in range(30)]))
    missing = data.draw(st.sampled_from(["zero", "median", "indicator"]))
    categories = data.draw(st.sampled_from(["one_hot", "ids"]))
    path = tmp_path_factory.mktemp("tables") / "d.parquet"
    pq.write_table(table, path)
    config = DataConfig(reader="table", source=str(path), table={"missing": missing, "categories": categories})
    try:
        opened = open_data(config)
    except DataError:
        event("refused")
        return
    order = data.draw(st.permutations(table.column_names))
    pq.write_table(table.select(order), path)
    monitored = new_rows(opened, config).x
    frame = table.select(order).to_pandas(date_as_object=data.draw(st.booleans()))
    end = TensorSpec("x", "float32", opened.input.shape)
    model = Table(File((end,), (end,), dict), json.loads(json.dumps(describe(opened))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of categories that no training row has
        asked = model.predict(frame).to_numpy()
    np.testing.assert_array_equal(asked, monitored)
    for split, (x, _) in {split: opened.arrays(split) for split in opened.counts}.items():
        assert set(map(bytes, x)) <= set(map(bytes, asked)), split
