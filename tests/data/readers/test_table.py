"""Tables, as CSV and as Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_of_classes(tmp_path: Path, suffix: str) -> None:
    columns = {"a": RANDOM.random(90), "b": np.arange(90), "kind": np.array(["x", "yy", "z"])[np.arange(90) % 3]}
    path = tmp_path / f"d{suffix}"
    (pyarrow.csv.write_csv if suffix == ".csv" else pq.write_table)(pa.table(columns), path)
    data = open_data(DataConfig(reader="table", source=str(path), target="kind"))
    assert data.classes == ("x", "yy", "z")
    assert data.input.shape == (2,)
    x, y = data.arrays("test")
    np.testing.assert_array_equal(x[:, 1].astype(int) % 3, y)


def test_table_with_a_categorical_label(tmp_path: Path) -> None:
    kinds = pa.array(["no", "yes"] * 20).dictionary_encode()
    pq.write_table(pa.table({"a": RANDOM.random(40), "label": kinds}), tmp_path / "d.parquet")
    assert open_data(DataConfig(reader="table", source=str(tmp_path / "d.parquet"))).classes == ("no", "yes")


def test_table_for_a_regression_of_two_targets(tmp_path: Path) -> None:
    columns = {name: RANDOM.random(50) for name in ("a", "b", "u", "v")}
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "d.csv")
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "d.csv"), target="u, v", problem="regression"))
    x, y = data.arrays("train")
    assert (x.shape, y.shape, y.dtype) == ((34, 2), (34, 2), np.float32)
    assert data.head.output_shape == (2,)
    assert data.head.variance == pytest.approx(tuple(y.var(axis=0)), rel=1e-5)
    assert (data.columns, data.head.target_columns) == (("a", "b"), ("u", "v"))


def test_table_names_the_column_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    config = DataConfig(reader="table", source=str(path))
    path.write_text("a,b,label\n1,2,0\n,3,1\n")
    with pytest.raises(DataError, match="'a' has missing"):
        open_data(config)
    path.write_text("a,city,label\n1,Bonn,0\n2,Kiel,1\n")
    with pytest.raises(DataError, match="city"):
        open_data(config)
    path.write_text("a,b,label\n1,2,0\n2,3,\n")
    with pytest.raises(DataError, match="'label' has missing"):
        open_data(config)
    path.write_text("a,a,label\n1,2,0\n")
    with pytest.raises(DataError, match="same name"):
        open_data(config)
    path.write_text("")
    with pytest.raises(DataError, match="no table"):
        open_data(config)


def test_table_uses_the_columns_that_input_lists(tmp_path: Path) -> None:
    rows = "\n".join(f"{number},Bonn,{number / 7},{number % 2}" for number in range(40))
    (tmp_path / "d.csv").write_text("id,city,a,label\n" + rows)
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "d.csv"), input="a"))
    assert data.input.shape == (1,)


def test_table_whose_whole_numbers_turn_into_fractions(tmp_path: Path) -> None:
    rows = "".join(
        f"{number},{number % 2}\n" for number in range(600_000)
    )  # past the block that types are inferred from
    (tmp_path / "d.csv").write_text("a,label\n" + rows + "0.5,1\n")
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "d.csv")))
    assert sum(data.counts.values()) == 600_001


ROWS = 60


def written(path: Path, rows: list[list[object]], separator: str = ",", encoding: str = "utf-8") -> DataConfig:
    path.write_text("\n".join(separator.join(map(str, row)) for row in rows) + "\n", encoding=encoding)
    return DataConfig(reader="table", source=str(path))


def rows(*, label: str = "label", decimal: str = ".", numbered: bool = False) -> list[list[object]]:
    """A line of names, and rows in which `a` tells the class, and `b` nothing."""
    body = [[f"{n % 3 + n / 1000:.3f}", f"{-n / 7:.3f}", n % 3] for n in range(ROWS)]
    lines = [["a", "b", label], *([*(str(v).replace(".", decimal) for v in row[:2]), row[2]] for row in body)]
    return [["" if place == 0 else place - 1, *line] for place, line in enumerate(lines)] if numbered else lines


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_numbers_that_pandas_writes_are_no_feature(tmp_path: Path, name: str) -> None:
    lines = rows(numbered=True)
    lines[0][0] = name
    data = open_data(written(tmp_path / "d.csv", lines))
    assert (data.columns, data.head.target_columns, data.input.shape) == (("a", "b"), ("label",), (2,))
    assert data.arrays("train")[0][:, 0].max() < 3
    (note,) = data.notes
    assert note.startswith("Column 1 has no name of its own")
    assert open_data(written(tmp_path / "e.csv", rows())).notes == ()


def test_the_index_that_pandas_keeps_in_parquet_is_no_feature_unless_it_is_asked_for(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": RANDOM.random(ROWS), "label": np.arange(ROWS) % 2}, index=RANDOM.permutation(ROWS))
    frame.to_parquet(tmp_path / "d.parquet")
    config = DataConfig(reader="table", source=str(tmp_path / "d.parquet"))
    assert open_data(config).columns == ("a",)
    asked = open_data(config.model_copy(update={"input": "a,__index_level_0__"}))
    assert (asked.columns, asked.notes) == (("a", "__index_level_0__"), ())


@pytest.mark.parametrize(
    ("suffix", "separator", "decimal", "encoding"),
    [
        (".csv", ";", ",", "utf-8"),
        (".csv", ";", ".", "utf-8"),
        (".csv", "\t", ".", "utf-8"),
        (".tsv", "\t", ",", "utf-8"),
        (".csv", ",", ".", "utf-8-sig"),
    ],
)
def test_tables_as_programs_write_them_hold_the_same(tmp_path, suffix, separator, decimal, encoding) -> None:
    plain = open_data(written(tmp_path / "plain.csv", rows()))
    other = open_data(written(tmp_path / f"d{suffix}", rows(decimal=decimal), separator, encoding))
    assert (other.columns, other.digest) == (plain.columns, plain.digest)


def test_a_separator_in_a_quoted_name_separates_nothing(tmp_path: Path) -> None:
    lines = rows()
    lines[0] = ['"a;b;c;d"', "b", "label"]
    assert open_data(written(tmp_path / "d.csv", lines)).columns == ("a;b;c;d", "b")


def test_a_word_is_a_label_also_where_it_is_n_a(tmp_path: Path) -> None:
    lines = rows()
    for line in lines[1:]:
        line[2] = ("no", "yes", "n/a")[line[2]]
    data = open_data(written(tmp_path / "d.csv", lines))
    assert data.classes == ("n/a", "no", "yes")
    x, y = data.arrays("train")
    np.testing.assert_array_equal((y + 2) % 3, x[:, 0].astype(int))
    lines[7][2] = ""
    with pytest.raises(DataError, match="column 'label' has missing"):
        open_data(written(tmp_path / "e.csv", lines))


@pytest.mark.parametrize("names", [("1", "2", "3"), ("-1", "0", "1")])
def test_labels_that_do_not_begin_at_0_are_names_in_their_order(tmp_path, names) -> None:
    lines = rows()
    for line in lines[1:]:
        line[2] = names[line[2]]
    config = written(tmp_path / "d.csv", lines)
    for data in (open_data(config), open_data(config.model_copy(update={"classes": names}))):
        x, y = data.arrays("train")
        np.testing.assert_array_equal(y, x[:, 0].astype(int))
        assert data.classes == names
    with pytest.raises(DataError, match=r"also hold '" + names[-1]):
        open_data(config.model_copy(update={"classes": (*names[:-1], "9")}))


def test_what_cannot_be_used_is_told_by_its_column(tmp_path: Path) -> None:
    for name, values, message in (
        ("mail", [f"a{n}@b.org" for n in range(ROWS)], "mail: 60 texts in 60 rows"),
        ("count", ["", *range(ROWS - 1)], "column 'count' has missing"),
        ("count", ["n/a", *range(ROWS - 1)], "column 'count' has missing"),
        ("huge", ["1e300", *range(ROWS - 1)], "column 'huge' has infinite"),
    ):
        lines = [[*line, value] for line, value in zip(rows(), [name, *values], strict=True)]
        with pytest.raises(DataError, match=message + r".*data.input"):
            open_data(written(tmp_path / f"{name}.csv", lines))


def test_a_target_that_never_varies_is_told_by_its_name(tmp_path: Path) -> None:
    lines = [[*line, value] for line, value in zip(rows(), ["rate", *["5"] * ROWS], strict=True)]
    config = written(tmp_path / "d.csv", lines).model_copy(update={"problem": "regression", "target": "label,rate"})
    with pytest.raises(DataError, match="rate: the same everywhere"):
        open_data(config)


def test_a_target_that_begins_with_whole_numbers_may_go_on_with_others(tmp_path: Path) -> None:
    """Arrow infers a column's type from the first megabytes, and refused the file at the first other number."""
    values = np.arange(200_000, dtype=np.float64)
    values[-100:] += 0.5
    lines = [f"{number % 7},{number:g}" if number.is_integer() else f"1,{number}" for number in values.tolist()]
    (tmp_path / "d.csv").write_text("\n".join(["a,price", *lines]))
    config = DataConfig(reader="table", source=str(tmp_path / "d.csv"), problem="regression", target="price")
    data = open_data(config)
    held = np.concatenate([data.targets[split][:, 0] for split in data.targets])
    np.testing.assert_array_equal(np.sort(held), values.astype(np.float32))
