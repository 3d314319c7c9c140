"""Folders of texts: the rows of a table of the same texts, in training, later and where a version is asked."""

import csv
from pathlib import Path

import numpy as np
import pytest
from new_rows import new_rows

from tasks.contract.errors import DataError
from tasks.data import READERS, DataConfig, Dataset, fingerprint, open_data
from tasks.data.tables.slimline_columns import words_of

SAID = {
    "rain": ("will it rain today", "Is rain coming?", "how much rain fell\nin the night", "rain, rain and rain"),
    "bread": ("bake some bread", "how long does bread keep", "Bread!", "is the bread done"),
}


def laid_out(root: Path, times: int = 20, start: int = 0, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Texts in class folders, some of them deeper."""
    rows = []
    for kind, texts in SAID.items():
        for number in range(start, start + times):
            for place, text in enumerate(texts):
                folder = root / kind / ("deep" if place == 3 else "")
                folder.mkdir(parents=True, exist_ok=True)
                said = f"{text} né {number}"
                (folder / f"{number}-{place}.txt").write_text(said, encoding)
                rows.append((said, kind))
    return rows


def config(source: Path, **more: object) -> DataConfig:
    of_table = ("encoding", "vocabulary", "text_length")
    table = {"texts": "text", **{name: more.pop(name) for name in of_table if name in more}}
    return DataConfig(reader="table", source=str(source), table=table, **more)


def every(data: Dataset) -> list[tuple[tuple[int, ...], str]]:
    """All rows of all splits, in an order of their own."""
    rows = []
    for split in ("train", "validation", "test"):
        x, y = data.arrays(split)
        rows += [(tuple(ids), data.classes[label]) for ids, label in zip(x.astype(int).tolist(), y, strict=True)]
    return sorted(rows)


def test_a_folder_is_the_table_of_its_texts(tmp_path):
    rows = laid_out(tmp_path / "texts")
    with (tmp_path / "said.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    # of the same words: which of two that are as common comes first depends on the rows' order
    (tmp_path / "words").write_text(
        "\n[UNK]\n" + "\n".join(sorted({word for said, _ in rows for word in words_of(said)}))
    )
    named = {"vocabulary": str(tmp_path / "words"), "text_length": 9}
    data = open_data(config(tmp_path / "texts", **named))
    assert data.classes == ("bread", "rain")
    assert every(data) == every(open_data(config(tmp_path / "said.csv", **named)))
    assert len(every(data)) == len(rows)
    # the classes are mixed in the source's own order
    source = READERS["table"].read(config(tmp_path / "texts"))
    labels = np.concatenate([labels for _, labels in source.parts["all"]()])
    assert (labels[1:] != labels[:-1]).sum() > 20


def test_split_folders_are_the_splits_as_text_sets_have_them(tmp_path):
    laid_out(tmp_path / "set" / "train")
    laid_out(tmp_path / "set" / "test", times=5, start=100)
    (tmp_path / "set" / "train" / "urls_pos.txt").write_text("http://localhost/of/a/text")
    (tmp_path / "set" / "words.txt").write_text("of all")
    data = open_data(config(tmp_path / "set"))
    assert data.counts["test"] == 40
    assert data.counts["train"] + data.counts["validation"] == 160
    assert any("beside the class folders of train have no class: 1 are left out" in note for note in data.notes)
    apart = open_data(config(tmp_path / "set" / "train", test_source=str(tmp_path / "set" / "test")))
    assert every(apart) == every(data)
    (tmp_path / "set" / "more" / "rain").mkdir(parents=True)
    (tmp_path / "set" / "more" / "rain" / "a.txt").write_text("rain")
    with pytest.raises(DataError, match="split folders and others side by side"):
        open_data(config(tmp_path / "set"))


def test_texts_are_asked_for_by_name_and_in_an_encoding(tmp_path):
    laid_out(tmp_path / "texts", encoding="latin-1")
    with pytest.raises(DataError, match=r"160 of 160 texts.*not in UTF-8.*data.table.encoding: cp1252"):
        open_data(config(tmp_path / "texts"))
    data = open_data(config(tmp_path / "texts", encoding="latin-1"))
    assert "né" in data.encoding[0].categories
    with pytest.raises(DataError, match=r"data\.table\.texts"):
        open_data(DataConfig(reader="table", source=str(tmp_path / "texts"), table={"encoding": "latin-1"}))
    with pytest.raises(DataError, match=r"data.reader: table and data.table.texts: text"):
        open_data(DataConfig(reader="folder", source=str(tmp_path / "texts")))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no"):
        open_data(config(tmp_path / "none"))


def test_a_text_that_moves_to_another_class_is_another_data_set(tmp_path):
    laid_out(tmp_path / "texts")
    before = fingerprint(config(tmp_path / "texts"))
    (tmp_path / "texts" / "rain" / "0-0.txt").rename(tmp_path / "texts" / "bread" / "other.txt")
    moved = fingerprint(config(tmp_path / "texts"))
    assert moved != before
    (tmp_path / "texts" / ".hidden.txt").write_text("x")
    assert fingerprint(config(tmp_path / "texts")) == moved


def test_new_texts_without_classes_are_read_by_the_words_that_were_learned(tmp_path):
    laid_out(tmp_path / "texts")
    data = open_data(config(tmp_path / "texts"))
    (tmp_path / "new").mkdir()
    for number in range(12):
        (tmp_path / "new" / f"{number}.txt").write_text("will it rain" if number % 2 else "bake bread")
    read = new_rows(data, config(tmp_path / "new"), labels=False)
    ids = {word: place + 2 for place, word in enumerate(data.encoding[0].categories)}
    assert {tuple(row[row > 0].astype(int)) for row in read.x} == {
        tuple(ids[word] for word in said.split()) for said in ("will it rain", "bake bread")
    }
