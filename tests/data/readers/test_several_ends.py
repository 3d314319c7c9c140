"""Several inputs and the targets of several outputs, by name: every reader gives the same examples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pictures import pictures, png

from tasks.contract.errors import DataError
from tasks.contract.named import fields
from tasks.data import READERS, DataConfig, fingerprint, open_data

ROWS = 150  # more than a chunk of any reader of files
IMAGES = pictures(ROWS, (5, 4, 3))
META = np.random.default_rng(1).random((ROWS, 6)).astype(np.float32)
AGE = np.arange(ROWS, dtype=np.float32)
KIND = np.array(["cat", "mouse", "ox"])[np.arange(ROWS) % 3]
BOX = np.random.default_rng(2).random((ROWS, 4)).astype(np.float32)
CORNERS = ("left", "top", "right", "bottom")

INPUTS = {"image": IMAGES, "meta": META, "age": AGE[:, None]}
HEADS = ({"name": "kind"}, {"name": "box", "problem": "regression"})
BY_CORNER = ({"name": "kind"}, {"name": "box", "problem": "regression", "target": ", ".join(CORNERS)})


def npz(folder: Path) -> dict[str, Any]:
    np.savez(folder / "d.npz", image=IMAGES, meta=META, age=AGE, kind=KIND, box=BOX, other=AGE)
    return {"source": str(folder / "d.npz"), "input": "image, meta, age", "heads": HEADS}


def tfrecord(folder: Path) -> dict[str, Any]:
    import tensorflow as tf

    def of(**values: Any) -> bytes:
        feature = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            if isinstance(value, bytes)
            else tf.train.Feature(float_list=tf.train.FloatList(value=value))
            for name, value in values.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    with tf.io.TFRecordWriter(str(folder / "d.tfrecord")) as writer:
        for image, meta, age, kind, box in zip(IMAGES, META, AGE, KIND, BOX, strict=True):
            writer.write(of(image=png(image), meta=meta, age=[age], kind=kind.encode(), box=box))
    return {"source": str(folder / "d.tfrecord"), "input": "image, meta, age", "heads": HEADS}


def parquet(folder: Path) -> dict[str, Any]:
    columns = {"image": [*map(png, IMAGES)], "meta": META.tolist(), "age": AGE, "kind": KIND, "box": BOX.tolist()}
    pq.write_table(pa.table(columns), folder / "d.parquet")
    return {"source": str(folder / "d.parquet"), "input": "image, meta, age", "heads": HEADS}


def function(folder: Path) -> dict[str, Any]:
    np.savez(folder / "held.npz", image=IMAGES, meta=META, age=AGE, kind=KIND, box=BOX)
    (folder / "several_ends_load.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        f"    held = np.load({str(folder / 'held.npz')!r})\n"
        "    return {n: held[n] for n in ('image', 'meta', 'age')}, {n: held[n] for n in ('kind', 'box')}\n"
    )
    return {"source": "several_ends_load:load", "heads": HEADS}


def folder(root: Path) -> dict[str, Any]:
    (root / "files").mkdir()
    for row, image in enumerate(IMAGES):
        (root / "files" / f"{row}.png").write_bytes(png(image))
    rows = [(f"{row}.png", AGE[row], KIND[row], *BOX[row].tolist()) for row in range(ROWS)]
    lines = [",".join(map(str, row)) for row in [("image", "age", "kind", *CORNERS), *rows]]
    (root / "files" / "labels.csv").write_text("\n".join(lines))
    return {"source": str(root / "files"), "input": "image, age", "heads": BY_CORNER}


def table(folder: Path) -> dict[str, Any]:
    columns = {"a": META[:, 0], "kind": KIND, "age": AGE, **dict(zip(CORNERS, BOX.T, strict=True))}
    pyarrow.csv.write_csv(pa.table(columns), folder / "d.csv")
    return {"source": str(folder / "d.csv"), "heads": BY_CORNER}


def whole(config: DataConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All that a reader gives, by name; in the order of the ages, which count the rows."""
    source = READERS[config.reader].read(config)
    chunks = [(source.decode(x), y) for x, y in source.parts["all"]()]
    x, y = (fields(np.concatenate(each)) for each in zip(*chunks, strict=True))
    age = x["age"][:, 0] if "age" in x else x[""][:, source.columns.index("age")]
    order = np.argsort(age)
    return {name: values[order] for name, values in x.items()}, {name: values[order] for name, values in y.items()}


WRITTEN: list[Callable[[Path], dict[str, Any]]] = [npz, tfrecord, parquet, function, folder, table]


@pytest.mark.parametrize("write", WRITTEN)
def test_every_reader_gives_the_same_examples_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write) -> None:
    monkeypatch.chdir(tmp_path)
    config = DataConfig(reader=write.__name__, **write(tmp_path))
    x, y = whole(config)
    asked = config.input.split(", ") if config.input else ["image", "meta", "age"]
    inputs = {name: INPUTS[name] for name in asked} if write is not table else {"": np.stack([META[:, 0], AGE], axis=1)}
    assert list(x) == list(inputs)
    for name, values in inputs.items():
        assert x[name].dtype.kind == values.dtype.kind
        np.testing.assert_array_equal(x[name].astype(values.dtype), values)
    assert list(y) == [of_head.target for of_head in config.of_heads.values()]
    kind, box = y.values()
    texts = [each.decode() if isinstance(each, bytes) else each for each in kind.tolist()]
    assert texts == KIND.tolist()
    np.testing.assert_allclose(box, BOX, rtol=1e-6)


@pytest.mark.parametrize("write", WRITTEN)
def test_one_of_each_by_its_name_is_a_plain_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write) -> None:
    monkeypatch.chdir(tmp_path)
    several = write(tmp_path)
    if write is function:
        code = (tmp_path / "several_ends_load.py").read_text().replace("('kind', 'box')", "('kind',)")
        (tmp_path / "several_ends_one.py").write_text(code)
        config = DataConfig(reader="function", source="several_ends_one:load")
    else:
        one = {} if write is table else {"input": "image"}
        config = DataConfig(reader=write.__name__, **several | {"heads": (), "target": "kind"} | one)
    source = READERS[config.reader].read(config)
    x, y = next(source.parts["all"]())
    assert not y.dtype.names
    assert set(y.tolist()) <= {*KIND, *(name.encode() for name in KIND)}
    assert bool(source.decode(x).dtype.names) == (write is function)


@pytest.mark.parametrize("write", [each for each in WRITTEN if each is not function])  # whose chunks alone tell
def test_a_target_that_is_not_there_is_refused_by_the_head(tmp_path: Path, write) -> None:
    config = DataConfig(reader=write.__name__, **write(tmp_path) | {"heads": ({"name": "kind"}, {"name": "gone"})})
    with pytest.raises(DataError, match=r"data.heads: '.*gone.*it has .*kind"):
        READERS[config.reader].read(config)


@pytest.mark.parametrize("write", [npz, tfrecord, parquet, folder])
def test_an_input_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, write) -> None:
    config = DataConfig(reader=write.__name__, **write(tmp_path) | {"input": "image, gone"})
    with pytest.raises(DataError, match=r"data.input: 'gone'.*it has .*image"):
        READERS[config.reader].read(config)


def test_class_names_are_those_of_each_target(tmp_path: Path) -> None:
    config = DataConfig(reader="parquet", **parquet(tmp_path))
    columns = pq.read_table(config.source)
    numbers = columns.set_column(columns.column_names.index("kind"), "kind", pa.array(np.arange(ROWS) % 3))
    said = {"info": {"features": {"kind": {"names": ["cat", "mouse", "ox"]}}}}
    pq.write_table(numbers.replace_schema_metadata({"huggingface": json.dumps(said)}), config.source)
    source = READERS["parquet"].read(config)
    assert (source.classes, source.classes_of) == ((), {"kind": ("cat", "mouse", "ox"), "box": ()})
    assert [head.classes for head in open_data(config).heads] == [("cat", "mouse", "ox"), ()]


def test_the_same_examples_in_every_file_are_the_same_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    every = [DataConfig(reader=write.__name__, **write(tmp_path)) for write in (npz, tfrecord, parquet, function)]
    data = [open_data(config) for config in every]
    assert len({each.digest for each in data}) == 1
    assert len({fingerprint(config) for config in every}) == 4
    assert data[0].output_shapes == {"kind": (3,), "box": (4,)}


def test_masks_and_class_folders_are_the_target_of_one_output(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "masked" / kind).mkdir(parents=True)
        (tmp_path / "masked" / kind / "1.png").write_bytes(png(IMAGES[0, ..., 0] % 2))
        (tmp_path / "classes" / kind).mkdir(parents=True)
        (tmp_path / "classes" / kind / "1.png").write_bytes(png(IMAGES[0]))
    (tmp_path / "classes" / "masks").rename(tmp_path / "classes" / "other")
    for source, message in (("masked", "masks, which are the target of one output"), ("classes", "root/labels.csv")):
        with pytest.raises(DataError, match=f"data.heads: .*{message}"):
            READERS["folder"].read(DataConfig(reader="folder", source=str(tmp_path / source), heads=HEADS))


def test_a_text_beside_a_file_is_no_input(tmp_path: Path) -> None:
    config = DataConfig(reader="folder", **folder(tmp_path) | {"input": "image, kind"})
    with pytest.raises(DataError, match=r"data.input: 'kind'.*those are numbers"):
        next(READERS["folder"].read(config).parts["all"]())


def test_a_table_refuses_several_columns_of_one_classification(tmp_path: Path) -> None:
    heads = ({"name": "kind", "target": "kind, left"}, BY_CORNER[1])
    with pytest.raises(DataError, match="kind, left': a classification has one target column"):
        READERS["table"].read(DataConfig(reader="table", **table(tmp_path) | {"heads": heads}))


def test_a_gap_in_the_target_of_one_output_is_found_and_dropped(tmp_path: Path) -> None:
    config = DataConfig(reader="table", **table(tmp_path))
    path = Path(config.source)
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([*cells[:-1], ""])
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="'bottom' has missing values"):
        list(READERS["table"].read(config).parts["all"]())
    kept = config.model_copy(update={"table": config.table.model_copy(update={"missing": "drop"})})
    x, y = whole(kept)
    rows = np.delete(np.arange(ROWS), 2)
    np.testing.assert_array_equal(x[""][:, 1], AGE[rows])
    assert y["kind"].tolist() == KIND[rows].tolist()
