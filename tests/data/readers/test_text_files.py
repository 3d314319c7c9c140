"""Text files as they come: names or none, encodings, packed, marks for missing values; folders that are columns."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, fingerprint, open_data
from tasks.data.tables.config import TableConfig
from tasks.data.tables.first_lines import Layout, layout_of

ROWS = 60
BODY = [(f"{n % 3 + n / 1000:.3f}", f"{-n / 7:.3f}", ("oak", "elm", "ash")[n % 3]) for n in range(ROWS)]
PLAIN = "".join(",".join(row) + "\n" for row in [("a", "b", "label"), *BODY])


def read(path: Path, content: str | bytes, **options: object) -> Dataset:
    table = {name: options.pop(name) for name in ("header", "encoding", "missing", "max_categories") if name in options}
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_data(DataConfig(reader="table", source=str(path), table=table, **options))


def examples(data: Dataset) -> int:
    return sum(data.counts.values())


def body(*columns: list, names: str = "") -> str:
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([names, *lines] if names else lines) + "\n"


def test_a_table_without_names_loses_no_row_and_the_note_says_so(tmp_path: Path) -> None:
    rows = PLAIN.split("\n", 1)[1]
    data = read(tmp_path / "d.csv", rows, target="column_3")
    assert (examples(data), data.columns) == (ROWS, ("column_1", "column_2"))
    assert data.classes == ("ash", "elm", "oak")
    assert data.notes == ("The first line of d.csv has values and no names: its columns are column_1 to column_3.",)
    with pytest.raises(DataError, match=r"'label': the source has no such column; it has column_1, column_2, column_3"):
        read(tmp_path / "d.csv", rows)


NUMBERS = [str(n * 7 % 11 - 3) for n in range(ROWS)]
LETTERS = ["xyz"[n % 3] for n in range(ROWS)]
CLASSES = [str(n % 2) for n in range(ROWS)]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ([["5", *NUMBERS], ["-3", *NUMBERS], ["1", *CLASSES]], False),  # numbers alone
        ([["x", *LETTERS], ["x", *LETTERS[1:], "x"], ["x", *LETTERS]], False),  # texts that come again
        ([["4", *NUMBERS], ["1.5", *NUMBERS], ["unique", *LETTERS]], False),  # no name is a fraction
        ([["0", *NUMBERS], ["1", *NUMBERS], ["2", *CLASSES]], True),  # as pandas numbers columns
        ([["", *NUMBERS], ["0", *NUMBERS], ["1", *NUMBERS], ["2", *NUMBERS], ["kind", *LETTERS]], True),
        ([["a", *NUMBERS], ["b", *LETTERS], ["c", *CLASSES]], True),
        ([["a", *LETTERS], ["b", *LETTERS], ["c", *LETTERS]], True),
        ([["country", *LETTERS], ["2019", *NUMBERS], ["2020", *NUMBERS]], None),  # as the sheets of statistical offices
        ([["1", *NUMBERS], ["2", *NUMBERS], ["3", *CLASSES]], None),
        ([["0", *NUMBERS], ["1", *CLASSES]], None),
        ([["a", "x", "a", *LETTERS], ["b", "y", "b", *LETTERS]], None),  # two files one behind the other, or values
    ],
)
def test_what_a_first_line_is_is_seen_or_asked(tmp_path: Path, columns, named) -> None:
    path = tmp_path / "d.csv"
    path.write_text(body(*columns))
    made_up = tuple(f"column_{number}" for number in range(1, len(columns) + 1))

    def layout(**config: str) -> Layout:
        return layout_of("data.source", path, TableConfig(**config))

    if named is None:
        with pytest.raises(DataError, match=r"may be names or values: write data.table.header: names, or none"):
            layout()
    else:
        assert (layout().names, bool(layout().note)) == (() if named else made_up, not named)
    assert (layout(header="names").names, layout(header="none").names) == ((), made_up)
    assert layout(header="none").note == ""


@pytest.mark.parametrize("mark", ["?", "NA", "-", "NULL", " ?", "None", "#N/A"])
def test_marks_among_numbers_are_missing_values_wherever_they_stand(tmp_path: Path, mark: str) -> None:
    """Also behind the block that types are inferred from, and in a column that has nothing but marks in it."""
    numbers = [f"{n / 7:.3f}" for n in range(ROWS)]
    for place in (0, ROWS - 1):
        numbers[place] = mark
        content = body(numbers, CLASSES, names="a,label")
        with pytest.raises(DataError, match=r"column 'a' has missing values; write data.table.missing"):
            read(tmp_path / "d.csv", content)
        data = read(tmp_path / "d.csv", content, missing="zero")
        assert (data.columns, sum(data.arrays(split)[0].tolist().count([0.0]) for split in data.counts)) == (
            ("a",),
            sum(value == mark for value in numbers),
        )


def test_a_mark_among_texts_is_a_category(tmp_path: Path) -> None:
    """NA is Namibia; an empty text alone is missing."""
    data = read(tmp_path / "d.csv", body(["NA", "DE", "?"] * 20, range(ROWS), CLASSES, names="country,n,label"))
    assert data.columns == ("country=?", "country=DE", "country=NA", "n")
    with pytest.raises(DataError, match="column 'country' has missing values"):
        read(tmp_path / "d.csv", body(["", "DE", "FR"] * 20, CLASSES, names="country,label"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252", "latin-1", "utf-16-le"])
@pytest.mark.parametrize("where", ["name", "value", "label"])
def test_encodings_are_seen_by_their_mark_or_named(tmp_path: Path, encoding: str, where: str) -> None:
    city = ["Köln", "Bonn", "Ulm"] * 20
    columns = [range(ROWS), city if where == "value" else CLASSES, city if where == "label" else CLASSES]
    content = body(*columns, names="größe,b,label" if where == "name" else "a,b,label")
    plain = read(tmp_path / "plain.csv", content)
    if encoding in ("utf-8-sig", "utf-16"):
        assert read(tmp_path / "d.csv", content.encode(encoding)).digest == plain.digest
        return
    with pytest.raises(DataError, match=r"data.table.encoding: cp1252"):
        read(tmp_path / "d.csv", content.encode(encoding))
    data = read(tmp_path / "d.csv", content.encode(encoding), encoding=encoding)
    assert (data.columns, data.classes, data.digest) == (plain.columns, plain.classes, plain.digest)


def test_an_encoding_that_shows_far_into_a_file_is_refused_too(tmp_path: Path) -> None:
    """Its first megabytes are ASCII, in which types are inferred."""
    lines = body(["Bonn", "Ulm"] * 700_000, CLASSES[:2] * 700_000, names="city,label").encode()
    with pytest.raises(DataError, match=r"data.table.encoding: cp1252"):
        read(tmp_path / "d.csv", lines + "Köln,1\n".encode("cp1252"))


def test_no_encoding_of_that_name() -> None:
    for name in ("klingon", "base64"):
        with pytest.raises(ValueError, match="no encoding of text that Python knows"):
            DataConfig(reader="table", source="d.csv", table={"encoding": name})


def test_packed_text_is_read_as_it_was(tmp_path: Path) -> None:
    plain = read(tmp_path / "plain.csv", PLAIN)
    assert read(tmp_path / "d.csv.gz", gzip.compress(PLAIN.encode())).digest == plain.digest
    with pytest.raises(DataError, match="no table that can be read"):
        read(tmp_path / "cut.csv.gz", gzip.compress(PLAIN.encode())[:-40])


def test_json_lines(tmp_path: Path) -> None:
    plain = read(tmp_path / "plain.csv", PLAIN)
    lines = "\n".join(json.dumps({"b": float(b), "label": label, "a": float(a)}) for a, b, label in BODY)
    data = read(tmp_path / "d.jsonl", lines, input="a,b")
    assert (data.columns, data.digest) == (plain.columns, plain.digest)
    with pytest.raises(DataError, match=r"no table that can be read.*changed from number to string"):
        read(tmp_path / "d.jsonl", lines.replace("1.001", '"?"', 1))
    with pytest.raises(DataError, match="no table that can be read"):
        read(tmp_path / "d.ndjson", "[1]")
    with pytest.raises(DataError, match=r"'a': holds struct.*data.input"):
        read(tmp_path / "d.jsonl", lines.replace('"a": ', '"a": {"x": ').replace("}", "}}"))


def test_folders_that_are_columns_are_inputs_and_part_of_what_the_data_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(ROWS) / 7, "year": 2020 + np.arange(ROWS) % 3, "at": ["x y", "z"] * 30})
    frame = frame.assign(label=frame["year"] % 2)
    frame.to_parquet(tmp_path / "hive", partition_cols=["year", "at"])
    frame.to_parquet(tmp_path / "d.parquet")
    config = DataConfig(reader="table", source=str(tmp_path / "hive"), input="a,year,at")
    hive, whole = open_data(config), open_data(config.model_copy(update={"source": str(tmp_path / "d.parquet")}))
    assert hive.columns == whole.columns == ("a", "year", "at=x y", "at=z")
    for split in hive.counts:
        assert sorted(map(tuple, hive.arrays(split)[0])) == sorted(map(tuple, whole.arrays(split)[0]))
    before = fingerprint(config)
    (tmp_path / "hive" / "year=2022").rename(tmp_path / "hive" / "year=2023")
    assert fingerprint(config) != before, "the same files say something else"


@pytest.mark.parametrize("options", [{"header": "none"}, {"encoding": "cp1252"}])
def test_settings_of_text_files_where_there_is_none_are_refused(tmp_path: Path, options) -> None:
    pd.DataFrame({"a": np.arange(ROWS) / 7, "label": np.arange(ROWS) % 2}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=rf"data.table.{next(iter(options))}.*d.parquet is no CSV or TSV file"):
        open_data(DataConfig(reader="table", source=str(tmp_path / "d.parquet"), table=options))
