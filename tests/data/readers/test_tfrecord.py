"""TFRecords: features of every kind, shards, compression, and damage that says where it is."""

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, fingerprint, open_data

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)
LABELS = np.arange(40) % 2
NUMBERS = np.random.default_rng(1).random((40, 6)).astype(np.float32)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def record(**features: Any) -> bytes:
    import tensorflow as tf

    kinds = {
        bytes: lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
        int: lambda values: tf.train.Feature(int64_list=tf.train.Int64List(value=values)),
        float: lambda values: tf.train.Feature(float_list=tf.train.FloatList(value=values)),
    }
    lists = {name: value if isinstance(value, list) else [value] for name, value in features.items()}
    feature = {name: kinds[type(value[0])](value) for name, value in lists.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, records: list[bytes], compression: str = "") -> Path:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for each in records:
            writer.write(each)
    return path


def opened(source: Path | str, **config: Any) -> Dataset:
    return open_data(DataConfig(reader="tfrecord", source=str(source), **config))


def examples(rows: range = range(40), **kinds: Callable[[int], Any]) -> list[bytes]:
    kinds = kinds or {"image": lambda row: png(IMAGES[row]), "label": lambda row: int(LABELS[row])}
    return [record(**{name: kind(row) for name, kind in kinds.items()}) for row in rows]


def rows_of(data: Dataset, dtype: type) -> dict[bytes, Any]:
    pairs = [pair for split in data.counts for pair in zip(*data.arrays(split), strict=True)]
    return {x.astype(dtype).tobytes(): y for x, y in pairs}


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_images_and_labels_plain_or_compressed(tmp_path: Path, compression: str) -> None:
    data = opened(write(tmp_path / "d.tfrecord", examples(), compression))
    assert (data.input.shape, data.classes) == ((5, 4, 3), ("0", "1"))
    known = rows_of(data, np.uint8)
    assert [known[image.tobytes()] for image in IMAGES] == LABELS.tolist()
    assert data.notes == ("Features of the records: image is image, label is numbers.",)


def serialized(row: int) -> bytes:
    import tensorflow as tf

    return tf.io.serialize_tensor(NUMBERS[row].reshape(2, 3)).numpy()


@pytest.mark.parametrize(
    ("value", "feature", "shape"),
    [
        (lambda row: NUMBERS[row].tolist(), None, (6,)),
        (lambda row: NUMBERS[row].tolist(), {"shape": (3, 2)}, (3, 2)),
        (lambda row: NUMBERS[row].tobytes(), {"type": "float32", "shape": (2, 3)}, (2, 3)),
        (lambda row: NUMBERS[row].tobytes(), {"type": "float32"}, (6,)),
        (serialized, {"type": "tensor"}, (2, 3)),
        (serialized, {"type": "tensor", "shape": (6,)}, (6,)),
    ],
)
def test_numbers_in_every_form_are_the_same_numbers(tmp_path: Path, value, feature, shape) -> None:
    records = examples(x=value, y=lambda row: [b"no", b"yes"][row % 2])
    features = ({"name": "x", **feature},) if feature else ()
    data = opened(write(tmp_path / "d.tfrec", records), input="x", target="y", features=features)
    assert (data.input.shape, data.classes) == (shape, ("no", "yes"))
    known = rows_of(data, np.float32)
    assert [known[row.tobytes()] for row in NUMBERS] == LABELS.tolist()


def test_whole_numbers_and_bytes_of_images_as_they_are(tmp_path: Path) -> None:
    records = examples(x=lambda row: IMAGES[row].tobytes(), y=lambda row: NUMBERS[row, :2].tolist())
    features = ({"name": "x", "type": "uint8", "shape": (5, 4, 3)},)
    path = write(tmp_path / "d.tfrecord", records)
    data = opened(path, input="x", target="y", features=features, problem="regression")
    known = rows_of(data, np.uint8)
    assert (data.input.dtype, data.head.output_shape) == (np.uint8, (2,))
    np.testing.assert_array_equal([known[image.tobytes()] for image in IMAGES], NUMBERS[:, :2])
    with pytest.raises(DataError, match=r"60 bytes that are no image; .*type: uint8, shape"):
        opened(path, input="x", target="y", problem="regression")


@pytest.mark.parametrize(
    "name",
    ["{}-0000{}-of-00002.tfrecord", "{}.tfrecord-0000{}-of-00002", "mnist-{}.tfrecord-0000{}-of-00002", "{}_{}.tfrec"],
)
def test_shards_are_of_the_split_in_their_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / name.format("train", 0), examples(range(14)))
    write(tmp_path / name.format("train", 1), examples(range(14, 28)), "GZIP")
    write(tmp_path / name.format("test", 0), examples(range(28, 40)))
    (tmp_path / "dataset_info.json").write_text("{}")
    data = opened(tmp_path)
    assert data.counts["test"] == 12
    np.testing.assert_array_equal(data.arrays("test")[0], IMAGES[28:])
    only = opened(tmp_path / "*train*")
    assert sum(only.counts.values()) == 28
    with_test = opened(tmp_path / "*train*", test_source=str(tmp_path / name.format("test", 0)))
    assert with_test.digest == data.digest
    assert fingerprint(with_test.config) == fingerprint(data.config)
    write(tmp_path / "more.tfrecord", examples(range(3)))
    with pytest.raises(DataError, match="name all of its files"):
        opened(tmp_path)


def test_groups_and_times_are_features(tmp_path: Path) -> None:
    records = examples(
        x=lambda row: NUMBERS[row].tolist(),
        label=lambda row: int(LABELS[row]),
        patient=lambda row: f"p{row // 4}".encode(),
        taken=lambda row: 1_700_000_000 + row,
    )
    data = opened(write(tmp_path / "d.tfrecord", records), input="x", group="patient", time="taken")
    assert data.counts == {"train": 24, "validation": 6, "test": 6}, "of 40, 4 share a group with a later split"
    np.testing.assert_array_equal(data.arrays("test")[0], NUMBERS[34:])
    with pytest.raises(DataError, match=r"data.group: 'gone'.*it has label, patient, taken, x"):
        opened(tmp_path / "d.tfrecord", input="x", group="gone")


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_damaged_record_is_named_with_its_place(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "d.tfrecord", examples())
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 255
    path.write_bytes(gzip.compress(bytes(content)) if compression else bytes(content))
    with pytest.raises(DataError, match=r"d\.tfrecord, record (29|30)'.*is damaged"):
        opened(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress])
@pytest.mark.parametrize("share", [0.313, 0.887])
def test_a_file_that_is_cut_off(tmp_path: Path, pack: Callable[[bytes], bytes], share: float) -> None:
    path = write(tmp_path / "d.tfrecord", examples())
    content = pack(path.read_bytes())
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"d\.tfrecord, record \d+.*is damaged|d\.tfrecord.*is cut off"):
        opened(path)


def test_compressed_files_that_are_cut_off_between_two_records(tmp_path: Path) -> None:
    """TensorFlow reads those before the cut, and says nothing of the others."""
    path = write(tmp_path / "d.tfrecord", examples())
    whole = gzip.compress(path.read_bytes())
    for cut in range(100, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="is cut off"):
            opened(path)
    path.write_bytes(whole + whole)  # which gzip allows
    assert opened(path).duplicates == 0
    assert len(rows_of(opened(path), np.uint8)) == 40


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (lambda: [*examples(range(30)), record(image=png(IMAGES[0]))], r"record 30.*has no feature 'label'"),
        (lambda: [*examples(range(30)), record(image=png(IMAGES[0]), label=0.5)], r"record 30.*in float_list"),
        (lambda: [*examples(range(30)), record(image=png(IMAGES[0]), label=[1, 0])], r"record 30.*2 values of 'label'"),
        (lambda: [*examples(range(30)), b"\xff\xff"], r"record 30.*no tf.train.Example"),
        (lambda: [*examples(range(30)), record(image=b"\x89PNG", label=1)], r"record 30.*no image that can be decoded"),
        (lambda: [b"\xff\xff"], r"record 0.*no tf.train.Example"),
        (list, "holds no records"),
        (lambda: examples(picture=lambda row: png(IMAGES[row])), r"data.input: 'image'.*it has picture"),
        (lambda: examples(image=lambda row: [png(IMAGES[row])] * 2, label=lambda row: 1), "2 texts or images"),
        (
            lambda: examples(image=lambda row: png(IMAGES[row]), label=lambda row: png(IMAGES[row])),
            "holds images; a target is",
        ),
    ],
)
def test_records_that_are_not_as_the_first(tmp_path: Path, records: Callable[[], list[bytes]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path / "d.tfrecord", records()))


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"name": "x", "shape": (4,)}, r"data.features.*first record has 6 numbers"),
        ({"name": "x", "type": "uint8"}, r"data.features.*records hold numbers"),
        ({"name": "raw", "type": "float32", "shape": (5,)}, r"record 0: raw.*is no float32 5"),
        ({"name": "raw", "type": "tensor"}, r"record 0: raw.*is no tensor"),
        ({"name": "raw"}, r"data.features.*hold bytes; say of which type"),
    ],
)
def test_a_specification_that_does_not_fit(tmp_path: Path, feature: dict[str, Any], message: str) -> None:
    records = examples(
        x=lambda row: NUMBERS[row].tolist(), raw=lambda row: NUMBERS[row].tobytes(), label=lambda row: row % 2
    )
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path / "d.tfrecord", records), input=feature["name"], features=(feature,))


def test_what_is_no_tfrecord(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_text("a text, and long enough to be taken for a record's length and its checksum")
    with pytest.raises(DataError, match=r"record 0.*is damaged"):
        opened(tmp_path / "a.tfrecord")
    with pytest.raises(DataError, match="no file fits this pattern"):
        opened(tmp_path / "*.tfrec")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no TFRecord file"):
        opened(tmp_path / "none")
