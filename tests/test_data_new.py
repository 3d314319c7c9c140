"""New data: their labels are numbered as the model numbers them, and their last examples count."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.data import DataConfig
from tasks.data.new import NewDataConfig, _as_the_model_numbers, open_new
from tasks.errors import DataError

MODEL = ("cat", "dog", "owl")
CONFIG = DataConfig(reader="npz", source="x.npz")


@pytest.mark.parametrize(
    ("y", "theirs", "expected"),
    [
        ([2, 0, 1], (), [2, 0, 1]),
        (["owl", "cat"], (), [2, 0]),
        ([0, 1], ("dog", "owl"), [1, 2]),  # the source lacks a class, and numbers the others from 0
        ([0, 2], ("owl", "dog", "cat"), [2, 0]),  # another order
        ([0, 2], ("Katze", "Hund", "Eule"), [0, 2]),  # the recipe renamed them
    ],
)
def test_labels_become_the_model_s_numbers(y, theirs, expected):
    config = CONFIG.model_copy(update={"classes": MODEL}) if "Katze" in theirs else CONFIG
    np.testing.assert_array_equal(_as_the_model_numbers(np.array(y), config, theirs, MODEL), expected)


@pytest.mark.parametrize(
    ("y", "theirs", "message"),
    [
        ([0, 7], ("cat", "dog"), "labels 0 to 7"),
        ([0, -1], ("cat", "dog"), "labels -1 to 0"),
        ([0, 3], (), "labels 0 to 3"),
        (["fox"], (), "'fox'"),
        ([0, 1, 2], ("cat", "fox", "owl"), "'fox'.*the model knows 'cat', 'dog', 'owl'"),
        ([0], ("cat", "fox"), "'fox'.*the model knows 'cat', 'dog', 'owl'"),
    ],
)
def test_labels_that_the_model_does_not_know_are_refused(y, theirs, message):
    with pytest.raises(DataError, match=message):
        _as_the_model_numbers(np.array(y), CONFIG, theirs, MODEL)


def test_what_is_read_otherwise_is_read_as_the_recipe_says():
    recipe = DataConfig(reader="folder", source="old", image_size=32, color="grey", scaling="unit", flip=True, limit=9)
    images = NewDataConfig(reader="folder", source="new").beside(recipe)
    assert images == recipe.model_copy(update={"source": "new", "limit": 0})
    arrays = NewDataConfig(reader="npz", source="new.npz").beside(recipe)  # which resizes nothing
    assert (arrays.image_size, arrays.color, arrays.scaling, arrays.flip) == (0, "auto", "unit", True)


def test_a_folder_without_labels_and_one_that_lacks_a_class(tmp_path: Path):
    for name in ("dog", "owl"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("L", (8, 8), 40 * number + len(name)).save(tmp_path / name / f"{number}.png")
    config = DataConfig(reader="folder", source=str(tmp_path))
    found = open_new(config, labels=True, classes=MODEL, input_shape=(8, 8, 1), limit=100)
    assert found.x.shape == (8, 8, 8, 1)
    assert sorted(found.y) == [1] * 4 + [2] * 4
    assert open_new(config, labels=False, classes=MODEL, input_shape=(8, 8, 1), limit=100).y is None


def test_the_last_rows_of_a_table(tmp_path: Path):
    pq.write_table(pa.table({"a": np.arange(20_000.0), "b": np.zeros(20_000)}), tmp_path / "new.parquet")
    config = DataConfig(reader="table", source=str(tmp_path / "new.parquet"))
    found = open_new(config, labels=False, classes=(), input_shape=(2,), limit=9000)
    assert (found.held, len(found.x)) == (20_000, 9000)
    np.testing.assert_array_equal(found.x[:, 0], np.arange(11_000, 20_000))
