"""Groups and times: no group stands in two splits, and what is measured on came last."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import DataError
from tasks.contract.named import ONE
from tasks.data import SPLITS, DataConfig, Dataset, describe, open_data
from tasks.data.heads import Head
from tasks.data.in_memory import keep_arrays
from tasks.data.new import open_new
from tasks.data.opening import read_dataset
from tasks.data.source import Source, array_part
from tasks.data.splits import assign

ROWS = 240
X = np.random.default_rng(3).random((ROWS, 3)).astype(np.float32)
PATIENT = np.array([f"p{number:02}" for number in np.random.default_rng(4).integers(0, 40, ROWS)])
Y = np.array([int(name[1:]) % 2 for name in PATIENT])
STAY = np.random.default_rng(5).integers(0, 6, ROWS)  # days since a patient came; a new one comes each second day
DAY = np.datetime64("2026-01-01") + np.array([2 * int(name[1:]) for name in PATIENT]) + STAY

FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "patient": PATIENT, "day": DAY.astype(str), "label": Y})


def opened(parts: dict[str, slice] | None = None, *, y: np.ndarray = Y, **config: object) -> Dataset:
    parts = parts or {"all": slice(None)}
    columns = {"patient": PATIENT, "day": DAY}
    source = Source(
        {part: array_part(X[rows], y[rows]) for part, rows in parts.items()},
        beside=lambda part, field, name: columns[name][parts[part]],
    )
    return read_dataset(source, DataConfig(**config))


def values_of(data: Dataset, column: np.ndarray) -> dict[str, list[object]]:
    place = {row.tobytes(): value for row, value in zip(X, column, strict=True)}
    return {split: [place[row.tobytes()] for row in data.arrays(split)[0]] for split in SPLITS}


def test_no_group_stands_in_two_splits() -> None:
    data = opened(group="patient")
    names = {split: set(values) for split, values in values_of(data, PATIENT).items()}
    assert sum(map(len, names.values())) == len(set.union(*names.values())) == len(set(PATIENT))
    assert sum(data.counts.values()) == ROWS
    assert abs(data.counts["test"] - 0.15 * ROWS) < 6
    for split, values in values_of(data, PATIENT).items():
        codes = data.groups[split]
        assert codes.dtype == np.int64
        assert len(set(zip(values, codes.tolist(), strict=True))) == len(set(values)) == len(set(codes.tolist()))
    assert data.notes[0].startswith("No group of 'patient' stands in two splits: ")
    assert describe(data)["groups"] == {split: len(names[split]) for split in SPLITS}
    assert not opened().groups
    assert data.digest != opened().digest


def test_a_group_of_a_test_set_that_is_there_is_never_trained_on() -> None:
    data = opened({"train": slice(0, 200), "test": slice(200, ROWS)}, group="patient")
    kept, (train, validation, test) = (
        values_of(data, PATIENT),
        ({*names} for names in values_of(data, PATIENT).values()),
    )
    assert not train & test
    assert not validation & (test | train)
    assert test == set(PATIENT[200:])
    shared = sum(name in test for name in PATIENT[:200])
    assert shared
    assert sum(map(len, kept.values())) == ROWS - shared
    assert f"{shared} examples are left out, as others of their groups stand in test or validation." in data.notes


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(0, 2), st.integers(0, 12)), min_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("test",), ("validation",), ("test", "validation")]),
)
def test_whatever_is_drawn_shares_neither_content_nor_group_nor_moment(rows, grouped, timed, own) -> None:
    contents, groups, labels, times = (np.array(column) for column in zip(*rows, strict=True))
    ends = np.linspace(0, len(rows), len(own) + 2).astype(int)
    names = ("train", *own) if own else ("all",)
    parts = {name: slice(*ends[place : place + 2]) for place, name in enumerate(names)}

    def of(column: np.ndarray, kind: type = np.uint64) -> dict[str, np.ndarray]:
        return {name: column[rows].astype(kind) for name, rows in parts.items()}

    members, *left_out = assign(
        of(contents),
        of(labels, np.int64),
        validation=0.2,
        test=0.2,
        seed=1,
        groups=of(groups) if grouped else {},
        times=of(times) if timed else {},
    )
    seen = {
        name: {split: {*of(column)[part][mask].tolist()} for split, (part, mask) in members.items()}
        for name, column in (("content", contents), ("group", groups), ("time", times))
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not seen["content"][one] & seen["content"][other]
        assert not grouped or not seen["group"][one] & seen["group"][other]
        if timed and members[one][0] == members[other][0] and seen["time"][one] and seen["time"][other]:
            assert max(seen["time"][one]) < min(seen["time"][other])
    assert sum(int(mask.sum()) for _, mask in members.values()) + sum(left_out) == len(rows)


def test_the_last_are_the_test_split_and_those_before_them_validation() -> None:
    data = opened(time="day")
    days = values_of(data, DAY)
    assert max(days["train"]) < min(days["validation"])
    assert max(days["validation"]) < min(days["test"])
    assert all(abs(data.counts[split] - 36) < 4 for split in ("validation", "test"))
    assert data.notes == (
        f"Splits by 'day': test {min(days['test'])} to {max(days['test'])}, validation {min(days['validation'])} to "
        f"{max(days['validation'])}, train {min(days['train'])} to {max(days['train'])}.",
    )


def test_by_time_and_by_group_what_shares_a_group_with_later_splits_is_left_out() -> None:
    data = opened(time="day", group="patient")
    patients, days = values_of(data, PATIENT), values_of(data, DAY)
    assert max(days["train"]) < min(days["test"])
    assert not {*patients["train"]} & {*patients["test"]}
    assert 100 < sum(data.counts.values()) < ROWS
    with pytest.raises(DataError, match=r"train has no '0'.*leave data\.group and data\.time out"):
        opened(time="day", group="patient", y=np.where(np.datetime64("2026-03-10") > DAY, 1, Y))


def test_few_large_groups_still_fill_every_split() -> None:
    """Of 5 patients with 48 rows each none fits into 36 rows."""
    columns = np.repeat([f"p{number}" for number in range(5)], 48)
    source = Source({"all": array_part(X, np.arange(ROWS) % 2)}, beside=lambda *_: columns)
    assert read_dataset(source, DataConfig(group="p")).counts == {"train": 144, "validation": 48, "test": 48}
    source = Source({"all": array_part(X, np.arange(ROWS) % 2)}, beside=lambda *_: np.repeat(["a", "b"], 120))
    with pytest.raises(DataError, match=r"data.group: 'p'.*too few groups"):
        read_dataset(source, DataConfig(group="p"))


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("group", np.full(ROWS, 0.5), "fractions"),
        ("group", np.full(ROWS, np.nan), "without a value"),
        ("group", np.array([None, *PATIENT[1:]], object), "without a value"),
        ("group", np.array(["", *PATIENT[1:]]), "without a value"),
        ("group", PATIENT[:-1], "one value for each example"),
        ("group", np.zeros((ROWS, 2)), "one value for each example"),
        ("time", np.full(ROWS, np.inf), "without a value"),
        ("time", np.full(ROWS, np.datetime64("NaT")), "without a value"),
        ("time", np.array(["31/03/2026"] * ROWS), "such as 2026-03-31"),
        ("time", np.array(["2026-03-31T10:00+02:00"] * ROWS), "such as 2026-03-31"),
        ("time", np.array(["2026-02-31"] * ROWS), "such as 2026-03-31"),
        ("time", np.ones(ROWS, complex), "such as 2026-03-31"),
        ("time", np.ones(ROWS), "too few moments"),
    ],
)
def test_columns_that_say_no_group_or_time(field: str, values: np.ndarray, message: str) -> None:
    source = Source({"all": array_part(X, Y)}, beside=lambda *_: values)
    with pytest.raises(DataError, match=f"data.{field}.*{message}"):
        read_dataset(source, DataConfig(**{field: "column"}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    FRAME.to_csv(folder / "d.csv", index=False)
    FRAME.to_parquet(folder / "d.parquet", index=False)
    np.savez(folder / "d.npz", x=X, y=Y, patient=PATIENT, day=DAY)
    rows = {"train": slice(0, 200), "test": slice(200, ROWS)}
    columns = {"x": X, "y": Y, "patient": PATIENT, "day": DAY}
    np.savez(folder / "s.npz", **{f"{k}_{s}": v[rows[s]] for k, v in columns.items() for s in rows})
    lists = pa.table({"x": X.tolist(), "label": Y, "patient": PATIENT, "day": DAY})
    pq.write_table(lists, folder / "lists.parquet", row_group_size=50)
    FRAME.to_pickle(folder / "d.pickle")
    (folder / "frames_beside.py").write_text(
        f"import pandas as pd\ndef load():\n    table = pd.read_pickle({str(folder / 'd.pickle')!r})\n"
        "    return table.drop(columns='label'), table['label']\n"
        "def short(): return load()[0].drop(columns='day'), load()[1]\n"
        "def pair(): return load()[0][['a', 'b', 'c']].to_numpy(), load()[1]\n"
    )
    return folder


READ = {
    "csv": {"reader": "table", "source": "d.csv"},
    "table": {"reader": "table", "source": "d.parquet"},
    "npz": {"reader": "npz", "source": "d.npz"},
    "parquet": {"reader": "parquet", "source": "lists.parquet", "input": "x"},
    "function": {"reader": "function", "source": "frames_beside:load"},
}


@pytest.mark.parametrize("how", READ)
def test_every_source_with_named_columns_splits_by_them(how: str, files: Path, monkeypatch) -> None:
    """The same splits as of arrays in memory, and the columns are no inputs."""
    monkeypatch.chdir(files)
    both = {"group": "patient", "time": "day"}
    data = open_data(DataConfig(**READ[how], **both))
    assert data.digest == opened(**both).digest


@pytest.mark.parametrize("how", READ)
def test_a_column_that_is_not_there(how: str, files: Path, monkeypatch) -> None:
    monkeypatch.chdir(files)
    of, fields = READ[how], ("group", "time")
    if how == "function":  # a date that is no time is an input that is no number
        of, fields = of | {"source": "frames_beside:short"}, ("time",)
    for field in fields:
        with pytest.raises(DataError, match=f"data.{field}: .*gone.*(day|patient)"):
            open_data(DataConfig(**of, **{"group": "patient", "time": "day"} | {field: "gone"}))


def test_arrays_of_a_function_have_no_columns(files: Path, monkeypatch) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(DataError, match=r"data.group: 'patient'.*return \(train, validation, test\)"):
        open_data(DataConfig(reader="function", source="frames_beside:pair", group="patient"))


def test_columns_of_a_program_s_frame_are_kept_beside_its_arrays(tmp_path: Path) -> None:
    both = {"group": "patient", "time": "day"}
    frame, label = FRAME.drop(columns="label"), FRAME["label"]
    kept = keep_arrays((frame, label), tmp_path, DataConfig(**both).beside).file
    assert open_data(DataConfig(reader="npz", source=str(kept), **both)).digest == opened(**both).digest
    splits = (frame[:200], label[:200]), (frame[200:], label[200:])
    kept = keep_arrays(splits, tmp_path, ("patient", "day")).file
    data = open_data(DataConfig(reader="npz", source=str(kept), group="patient"))
    assert {*values_of(data, PATIENT)["test"]} == {*PATIENT[200:]}
    gaps = frame.assign(patient=[None, *PATIENT[1:]])
    kept = keep_arrays((gaps, label), tmp_path, ("patient", "day")).file
    with pytest.raises(DataError, match=r"data.group.*without a value"):
        open_data(DataConfig(reader="npz", source=str(kept), group="patient"))
    with pytest.raises(DataError, match=r"data: 'site'.*it has a, b, c, patient, day"):
        keep_arrays((frame, label), tmp_path, ("site", "patient", "day"))
    with pytest.raises(DataError, match=r"data: 'patient'.*pandas DataFrame"):
        keep_arrays((X, Y), tmp_path, ("patient",))
    with pytest.raises(DataError, match="rename one"):
        keep_arrays((frame.rename(columns={"patient": "x"}), label), tmp_path, ("x", "day"))


def test_new_data_need_neither(files: Path) -> None:
    config = DataConfig(reader="table", source=str(files / "new.csv"), group="patient", time="day")
    FRAME[["c", "a", "b"]].to_csv(files / "new.csv", index=False)
    head = Head(problem="classification", output_shape=(2,), classes=("0", "1"), target_columns=("label",))
    new = open_new(config, labels=False, inputs={ONE: (3,)}, heads=(head,), limit=1000, columns=("a", "b", "c"))
    np.testing.assert_array_equal(new.x, X)


def test_npz_with_splits_has_the_columns_of_each(files: Path) -> None:
    data = open_data(DataConfig(reader="npz", source=str(files / "s.npz"), group="patient", time="day"))
    assert {*values_of(data, PATIENT)["test"]} == {*PATIENT[200:]}
    assert max(values_of(data, DAY)["train"]) < min(values_of(data, DAY)["validation"])
