"""New data: their labels are numbered as the model numbers them, and a sample of them counts, or the last ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, field, fields
from tasks.data import DataConfig
from tasks.data.heads import Head
from tasks.data.new import NewDataConfig, _as_the_model_numbers, open_new

MODEL = ("cat", "dog", "owl")
CONFIG = DataConfig(reader="npz", source="x.npz")


def classifier(*classes: str, columns: tuple[str, ...] = ()) -> tuple[Head, ...]:
    return (Head(problem="classification", output_shape=(len(classes),), classes=classes, target_columns=columns),)


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
    known = {"inputs": {ONE: (8, 8, 1)}, "heads": classifier(*MODEL), "limit": 100}
    new = open_new(config, labels=True, **known)
    assert new.x.shape == (8, 8, 8, 1)
    assert sorted(new.y) == [1] * 4 + [2] * 4
    assert open_new(config, labels=False, **known).y is None


def test_the_last_rows_of_a_table(tmp_path: Path):
    pq.write_table(pa.table({"a": np.arange(20_000.0), "b": np.zeros(20_000)}), tmp_path / "new.parquet")
    config = DataConfig(reader="table", source=str(tmp_path / "new.parquet"))
    new = open_new(config, labels=False, inputs={ONE: (2,)}, heads=classifier("0", "1"), limit=9000, last=True)
    assert (new.available, len(new.x)) == (20_000, 9000)
    np.testing.assert_array_equal(new.x[:, 0], np.arange(11_000, 20_000))


KNOWN = ("width", "height", "age")


def table(path: Path, *names: str, **config: object) -> DataConfig:
    """A table whose columns hold their names' lengths and the row's number, and labels where there are."""
    values = {name: [f"{len(name)}.{row:02}" for row in range(20)] for name in names}
    values |= {name: [str(row % 2) for row in range(20)] for name in names if name == "label"}
    lines = [",".join(names), *(",".join(row) for row in zip(*values.values(), strict=True))]
    path.write_text("\n".join(lines))
    return DataConfig(reader="table", source=str(path), **config)


def opened(config: DataConfig, *, labels: bool = True):
    return open_new(
        config,
        labels=labels,
        inputs={ONE: (3,)},
        heads=classifier("0", "1", columns=("label",)),
        limit=100,
        columns=KNOWN,
    )


@pytest.mark.parametrize("names", [("width", "height", "age", "label"), ("label", "age", "width", "height")])
def test_columns_are_found_by_name_in_any_order(tmp_path: Path, names):
    new = opened(table(tmp_path / "new.csv", *names))
    np.testing.assert_array_equal(new.x.astype(int), [[5, 6, 3]] * 20)
    np.testing.assert_array_equal(new.y, np.arange(20) % 2)
    assert new.notes == ()
    assert opened(table(tmp_path / "new.csv", *names), labels=False).y is None


def test_columns_that_the_model_does_not_know_are_left_out_and_told(tmp_path: Path):
    path = tmp_path / "new.csv"
    config = table(path, "color", *KNOWN, "label", "extra")
    path.write_text(path.read_text().replace("5.", "red", 1))  # which is no number, and does not matter
    new = opened(config)
    np.testing.assert_array_equal(new.x.astype(int), [[5, 6, 3]] * 20)
    assert new.notes == ("Columns that the model does not know are left out: color, extra.",)


def test_a_column_that_is_missing_or_renamed_is_refused_by_name(tmp_path: Path):
    renamed = table(tmp_path / "new.csv", "width", "height", "Age", "label")
    with pytest.raises(DataError, match=r"no column 'age'.*it has width, height, Age, label.*data.input"):
        opened(renamed)
    new = opened(renamed.model_copy(update={"input": "width, height, Age"}))  # the way out
    np.testing.assert_array_equal(new.x.astype(int), [[5, 6, 3]] * 20)
    with pytest.raises(DataError, match="the model takes 3 columns: width, height, age"):
        opened(renamed.model_copy(update={"input": "width,height"}))
    with pytest.raises(DataError, match=r"data.target: 'label'.*width, height, age"):
        opened(table(tmp_path / "new.csv", *KNOWN))


def test_the_recipe_s_columns_are_the_new_table_s_but_not_another_reader_s():
    recipe = DataConfig(reader="table", source="old.csv", input="a,b", target="price")
    same, other = (NewDataConfig(reader=reader, source="new").beside(recipe) for reader in ("table", "npz"))
    assert (same.input, same.target) == ("a,b", "price")
    assert (other.input, other.target) == ("", "")
    assert NewDataConfig(reader="table", source="new", target="cost").beside(recipe).target == "cost"
    records = DataConfig(
        reader="tfrecord", source="old", input="series", features=({"name": "series"},), group="machine"
    )
    again = NewDataConfig(reader="tfrecord", source="new").beside(records)
    assert again == records.model_copy(update={"source": "new"})
    assert NewDataConfig(reader="npz", source="new.npz").beside(records).features == ()


@pytest.mark.parametrize(("y", "expected"), [([1, 2], [0, 1]), ([3, 1], [2, 0])])
def test_labels_of_classes_that_are_numbers_go_by_their_names(y, expected):
    numbers = _as_the_model_numbers(np.array(y), CONFIG, (), ("1", "2", "3"))
    np.testing.assert_array_equal(numbers, expected)
    with pytest.raises(DataError, match="also hold '0'"):
        _as_the_model_numbers(np.array([0, 1]), CONFIG, (), ("1", "2", "3"))


# What a model of two inputs and two outputs takes and answers, and examples of it.
INPUTS = {"image": (4, 4), "age": (1,)}
KIND = Head(name="kind", problem="classification", output_shape=(3,), classes=MODEL)
BOX = Head(name="box", problem="regression", output_shape=(2,), variance=(1.0, 1.0))
IMAGES, AGES = np.random.default_rng(0).random((200, 4, 4), np.float32), np.arange(200, dtype=np.float32)
NAMES, BOXES = np.array(MODEL)[np.arange(200) % 3], np.stack([AGES, -AGES], axis=1)
SEVERAL = DataConfig(
    reader="npz", source="old", input="image, age", heads=({"name": "kind"}, {"name": "box", "problem": "regression"})
)


def several(path: Path, *, config: dict[str, object] | None = None, labels: bool = True, **settings: object):
    """New data in an archive, with or without what `config` changes of the recipe."""
    arrays = {"image": IMAGES, "age": AGES, "kind": NAMES, "box": BOXES} | settings
    np.savez(path / "new.npz", **{name: values for name, values in arrays.items() if values is not None})
    recipe = SEVERAL.model_copy(update=config or {})
    read = NewDataConfig(source=str(path / "new.npz"), labels=labels).beside(recipe)
    return open_new(read, labels=labels, inputs=INPUTS, heads=(KIND, BOX), limit=150)


@pytest.mark.parametrize("last", [False, True])
def test_several_inputs_and_outputs_stay_together(tmp_path: Path, last: bool):
    np.savez(tmp_path / "new.npz", image=IMAGES, age=AGES, kind=NAMES, box=BOXES)
    config = NewDataConfig(source=str(tmp_path / "new.npz")).beside(SEVERAL)
    new = open_new(config, labels=True, inputs=INPUTS, heads=(KIND, BOX), limit=150, last=last)
    rows = field(new.x, "age")[:, 0].astype(int)
    assert (len(set(rows)), new.available) == (150, 200)
    assert not last or list(rows) == list(range(50, 200))
    np.testing.assert_array_equal(field(new.x, "image"), IMAGES[rows])
    np.testing.assert_array_equal(KIND.of(new.y), rows % 3)
    np.testing.assert_array_equal(BOX.of(new.y), BOXES[rows])


def test_names_of_classes_that_grow_from_chunk_to_chunk_stay_whole_among_others(tmp_path: Path):
    names = np.where(np.arange(200) < 100, "cat", "hippopotamus")
    (tmp_path / "grown_names.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    for row in range(0, 200, 20):\n"
        "        rows = np.arange(row, row + 20)\n"
        "        kind = ['cat' if each < 100 else 'hippopotamus' for each in rows]\n"
        "        box = np.stack([rows, -rows], axis=1)\n"
        "        yield {'image': np.ones((20, 4, 4)), 'age': rows}, {'kind': kind, 'box': box}\n"
    )
    recipe = SEVERAL.model_copy(update={"reader": "function", "source": "grown_names:load", "input": ""})
    heads = (KIND.model_copy(update={"classes": ("cat", "hippopotamus"), "output_shape": (2,)}), BOX)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        new = open_new(recipe, labels=True, inputs=INPUTS, heads=heads, limit=30)
    rows = field(new.x, "age")[:, 0].astype(int)
    np.testing.assert_array_equal(heads[0].of(new.y), (names[rows] == "hippopotamus").astype(int))


def test_without_labels_only_inputs_are_looked_for(tmp_path: Path):
    new = several(tmp_path, labels=False, kind=None, box=None)
    assert list(fields(new.x)) == ["image", "age"]
    assert new.y is None


def test_another_reader_s_inputs_are_those_that_the_model_takes(tmp_path: Path):
    assert list(fields(several(tmp_path, config={"reader": "function", "input": ""}).x)) == ["image", "age"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"config": {"input": "image"}}, r"data.input: 'all: one input without a name'.*also takes image, age"),
        ({"config": {"heads": ()}}, "data.heads: .*one output without a name.*the model answers kind, box"),
        ({"age": np.ones((200, 2))}, r"age: examples \(2,\).*the model takes \(1,\)"),
        ({"age": None}, "data.input: 'age'.*it has box, image, kind"),
        ({"box": AGES}, r"box: targets \(1,\) an example.*made for targets \(2,\)"),
        ({"kind": np.where(NAMES == "owl", "fox", NAMES)}, "'fox'"),
        ({"box": None}, "data.heads: 'box'.*it has age, image, kind"),
    ],
)
def test_what_the_model_does_not_take_or_answer_is_refused_by_name(tmp_path: Path, wrong, message):
    with pytest.raises(DataError, match=message):
        several(tmp_path, **wrong)


def test_one_target_of_a_recipe_with_several_is_refused():
    with pytest.raises(DataError, match=r"data.target: 'y': leave it out: the recipe's data.heads read kind, box"):
        NewDataConfig(source="new.npz", target="y").beside(SEVERAL)
