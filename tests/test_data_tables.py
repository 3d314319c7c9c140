"""Tables, as CSV and as Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tasks.data import DataConfig, open_data
from tasks.errors import DataError

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_of_classes(tmp_path: Path, suffix: str) -> None:
    columns = {"a": RANDOM.random(90), "b": np.arange(90), "kind": np.array(["x", "yy", "z"])[np.arange(90) % 3]}
    path = tmp_path / f"d{suffix}"
    (pyarrow.csv.write_csv if suffix == ".csv" else pq.write_table)(pa.table(columns), path)
    data = open_data(DataConfig(reader="table", source=str(path), target="kind"))
    assert data.classes == ("x", "yy", "z")
    assert data.input_shape == (2,)
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
    assert data.output_shape == (2,)
    assert data.variance == pytest.approx(tuple(y.var(axis=0)), rel=1e-5)
    assert (data.columns, data.target_columns) == (("a", "b"), ("u", "v"))


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
    assert data.input_shape == (1,)


def test_table_whose_whole_numbers_turn_into_fractions(tmp_path: Path) -> None:
    rows = "".join(
        f"{number},{number % 2}\n" for number in range(600_000)
    )  # past the block that types are inferred from
    (tmp_path / "d.csv").write_text("a,label\n" + rows + "0.5,1\n")
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "d.csv")))
    assert sum(data.counts.values()) == 600_001
