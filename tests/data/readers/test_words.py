"""A table's column of texts: the ids of its words are those that Keras gives them, in training, later and elsewhere."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spoken_requests
from new_rows import new_rows
from pydantic import ValidationError

from flows.shipped import DEPLOYMENTS
from tasks.contract.errors import DataError
from tasks.data import DataConfig, describe, fingerprint, open_data
from tasks.data.tables.config import TableConfig
from tasks.data.tables.slimline_columns import as_json, encoded, from_json, words_of
from tasks.formats.slimline_pyfunc import File, Table, TensorSpec

WORDS = "when|will|the|next|one|come|and|is|it|late|or|early|today|please|tell|me|NOW"
ABOUT = ("rain", "bread", "trains")


def sentences(count: int = 160, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of 2 to 9 words, about something, with capitals and marks; some words stand in one of them alone."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        about = ABOUT[number % 3]
        text = draw.choices(WORDS.split("|"), k=draw.randint(1, 8))
        text.append(about if draw.random() < 0.9 else f"only{number}")
        draw.shuffle(text)
        rows.append((" ".join(text).capitalize() + draw.choice(["?", "!", "...", " - ok", ""]), about))
    return rows


def written(folder: Path, rows: list[tuple[str, ...]], names: tuple[str, ...] = ("said", "about"), **table: object):
    file = folder / "said.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([names, *rows])
    return DataConfig(reader="table", source=str(file), target="about", table={"texts": "said", **table})


def test_ids_are_those_of_keras_own_layer(tmp_path):
    import tensorflow as tf

    rows = sentences()
    data = open_data(written(tmp_path, rows))
    (column,) = data.encoding
    layer = tf.keras.layers.TextVectorization(output_sequence_length=column.length, vocabulary=[*column.categories])
    expected = {tuple(row) for row in layer([text for text, _ in rows]).numpy().tolist()}
    given = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    assert given.dtype == np.float32
    assert given.shape[1:] == (column.length,) == data.input.shape
    assert {tuple(row) for row in given.astype(int).tolist()} == expected
    assert data.columns == tuple(f"said.{place}" for place in range(1, column.length + 1))
    assert data.ids == 2 + len(column.categories)
    assert given.max() < data.ids


def test_the_words_are_the_training_rows_most_common_ones(tmp_path):
    rows = sentences()
    data = open_data(written(tmp_path, rows))
    (column,) = data.encoding
    texts = {tuple(encoded([as_json(column)], {"said": [text]})[0]): text for text, _ in rows}
    trained = [texts[tuple(row)] for row in data.arrays("train")[0]]
    counts = pd.Series([word for text in trained for word in words_of(text)]).value_counts()
    assert set(column.categories) == set(counts[counts > 1].index)
    assert [counts[word] for word in column.categories] == sorted(counts[counts > 1], reverse=True)
    lengths = sorted(len(words_of(text)) for text in trained)
    assert np.mean(np.array(lengths) <= column.length) >= 0.95
    assert any("of its first" in note and "known words" in note for note in data.notes)
    few = open_data(written(tmp_path, rows, max_words=4)).encoding[0]
    assert (len(few.categories), few.length) == (4, column.length)
    short = open_data(written(tmp_path, rows, text_length=3))
    assert short.input.shape == (3,)


def test_new_texts_become_the_same_ids_wherever_they_are_read(tmp_path):
    rows = sentences()
    data = open_data(written(tmp_path, rows))
    kept = json.loads(json.dumps(describe(data)))
    assert tuple(map(from_json, kept["encoding"])) == data.encoding
    new = [("Will the next train be LATE, today?", "rain"), ("Zxcv!", "bread")] * 20
    ids = encoded(kept["encoding"], {"said": [text for text, _ in new]})
    assert ids[0, -1] == 0
    assert ids[0, 0] > 1
    assert set(ids[1]) == {0, 1}

    config = written(tmp_path, new)
    read = new_rows(data, config, labels=False)
    assert {tuple(row) for row in read.x} == {tuple(row) for row in ids}
    assert any("20 of 40 texts have no word that the training rows have" in note for note in read.notes)

    asked = []
    ends = (TensorSpec("input", "float32", data.input.shape),), (TensorSpec("out", "float32", (3,)),)
    file = File(*ends, lambda x: (asked.append(x["input"]), {"out": np.zeros((len(x["input"]), 3), np.float32)})[1])
    table = Table(file, {**kept, "columns": list(data.columns), "classes": list(data.classes)})
    with pytest.warns(UserWarning, match=r"'said': 20 of 40 texts without a word that no training row had"):
        answers = table.predict(pd.DataFrame({"said": [text for text, _ in new]}))
    np.testing.assert_array_equal(asked[0], ids)
    assert list(answers.columns) == list(data.classes)


def test_columns_of_every_kind_become_elsewhere_what_they_became_in_training(tmp_path):
    draw = np.random.default_rng(0)
    count = 120
    frame = pd.DataFrame(
        {
            "width": np.where(draw.random(count) < 0.1, np.nan, draw.normal(10, 2, count).round(3)),
            "wood": draw.choice(["oak", "ash", "elm"], count),
            "made": pd.Timestamp("2023-01-01") + pd.to_timedelta(draw.integers(0, 700, count), "D"),
            "label": draw.integers(0, 2, count),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "t.csv"), table={"missing": "indicator"}))
    rows = {
        "width": [None if np.isnan(width) else float(width) for width in frame.width],
        "wood": [f" {wood}" for wood in frame.wood],
        "made": [str(moment.date()) for moment in frame.made],
    }
    given = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    made = encoded([*map(as_json, data.encoding)], rows)
    assert made.shape[1] == given.shape[1] > 4
    assert {tuple(row) for row in made} >= {tuple(row) for row in given}


def test_codes_and_truth_are_the_same_categories_elsewhere(tmp_path):
    """A number that is a code is a text of its own: 7.0 is no other than 7, and True no other than true."""
    frame = pd.DataFrame({"code": [7, 8, 9] * 40, "on": [True, False] * 60, "width": np.arange(120) / 7})
    frame.assign(label=frame["on"].astype(int)).to_csv(tmp_path / "t.csv", index=False)
    data = open_data(DataConfig(reader="table", source=str(tmp_path / "t.csv"), table={"categorical": "code, on"}))
    assert {column.name for column in data.encoding if column.categories} >= {"code"}
    kept = [*map(as_json, data.encoding)]
    given = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    floats = {name: values.tolist() for name, values in frame.assign(code=frame["code"].astype(float)).items()}
    assert {tuple(row) for row in encoded(kept, floats)} == {tuple(row) for row in given}


def test_a_model_s_own_words_have_their_own_ids(tmp_path):
    import tensorflow as tf

    rows = sentences()
    layer = tf.keras.layers.TextVectorization(max_tokens=12, output_sequence_length=7)
    layer.adapt([text for text, about in rows if about == "rain"])
    (tmp_path / "words.txt").write_text("\n".join(layer.get_vocabulary()))
    config = written(tmp_path, rows, vocabulary=str(tmp_path / "words.txt"), text_length=7)
    data = open_data(config)
    expected = {tuple(row) for row in layer([text for text, _ in rows]).numpy().tolist()}
    given = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")]).astype(int)
    assert {tuple(row) for row in given.tolist()} == expected
    assert data.ids == 12
    known = fingerprint(config)
    (tmp_path / "elsewhere.txt").write_text((tmp_path / "words.txt").read_text())
    assert fingerprint(written(tmp_path, rows, vocabulary=str(tmp_path / "elsewhere.txt"), text_length=7)) == known
    (tmp_path / "words.txt").write_text("\n".join(reversed(layer.get_vocabulary()[2:])))
    assert fingerprint(config) != known
    assert open_data(config).digest != data.digest
    (tmp_path / "words.txt").write_text("one\ntwo\none")
    with pytest.raises(DataError, match=r"data.table.vocabulary.*'one' twice; write one word a line"):
        open_data(config)
    (tmp_path / "words.txt").unlink()
    with pytest.raises(DataError, match=r"data.table.vocabulary.*is not there.*get_vocabulary"):
        open_data(config)


@pytest.mark.parametrize(
    ("rows", "names", "table", "message"),
    [
        ([("a b", 1), ("c", 2)] * 20, ("said", "about"), {"texts": "heard"}, "none of the columns in use: said"),
        ([(5, 1), (6, 2)] * 20, ("said", "about"), {}, "holds int64, and no texts; leave data.table.texts out"),
        (
            [("a b", n, n % 2) for n in range(40)],
            ("said", "size", "about"),
            {},
            "other columns are not one input: write data.input: said, or leave data.table.texts out",
        ),
        ([(f"a b{n}", n % 2) if n else ("", 0) for n in range(40)], ("said", "about"), {}, "data.table.missing: drop"),
        (
            [(f"text {n}", n % 2) for n in range(40)],
            ("said", "about"),
            {"texts": ""},
            "or, where their words count, write data.input and data.table.texts: said",
        ),
        ([(5, 1), (6, 2)] * 20, ("said", "about"), {"texts": "", "vocabulary": "w.txt"}, "name it in data.table.texts"),
    ],
    ids=["another column", "numbers", "beside others", "missing", "not said to be texts", "words of nothing"],
)
def test_what_cannot_be_taken_is_told_with_a_way_out(tmp_path, rows, names, table, message):
    with pytest.raises(DataError, match=message):
        open_data(written(tmp_path, rows, names, **table))


@pytest.mark.parametrize("about", [{"max_words": 100}, {"text_length": 7}])
def test_what_is_about_words_is_not_passed_over_where_no_column_has_any(about):
    (name,) = about
    with pytest.raises(ValidationError, match=rf"{name}: .*write it as data.table.texts, or leave {name} out"):
        TableConfig(**about)
    assert TableConfig(texts="said", **about).texts == "said"


def test_a_missing_text_may_be_one_without_words(tmp_path):
    rows = [("", "rain"), *sentences()]
    data = open_data(written(tmp_path, rows, missing="zero"))
    given = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    assert (given.max(axis=1) == 0).any()


def test_the_shipped_sentences_are_those_that_are_drawn():
    with (DEPLOYMENTS / "recipes" / "requests.csv").open(newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("request", "about"), *spoken_requests.rows()]
