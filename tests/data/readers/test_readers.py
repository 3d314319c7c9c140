"""Every reader on the smallest real source of its kind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import pictures, png

from tasks.contract.errors import DataError
from tasks.data import READERS, SPLITS, DataConfig, describe, fingerprint, open_data
from tasks.data.source import no_files

RANDOM = np.random.default_rng(7)


def write_parquet(path: Path, images: list[bytes], labels: np.ndarray | list[str], **metadata: str) -> Path:
    table = pa.table({"image": pa.array(images, pa.binary()), "label": pa.array(labels)})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=16)
    return path


def test_digits_are_split_whole_and_in_range() -> None:
    data = open_data(DataConfig())
    assert data.counts == {"train": 1257, "validation": 270, "test": 270}
    assert data.input.shape == (8, 8, 1)
    assert data.head.output_shape == (10,)
    assert (data.input.minimum, data.input.maximum) == (0.0, 16.0)
    assert data.classes == tuple("0123456789")
    x, y = data.sample("test", 100)
    assert (x.shape, x.dtype, y.dtype) == ((100, 8, 8, 1), np.float32, np.int64)


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "iris", "wine"])
def test_the_tables_of_scikit_learn_are_as_it_has_them(name: str) -> None:
    import sklearn.datasets

    theirs = getattr(sklearn.datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    problem = "regression" if name == "diabetes" else "classification"
    data = open_data(DataConfig(reader="sklearn", source=name, problem=problem))
    assert data.columns == tuple(map(str, theirs.feature_names))
    assert data.classes == tuple(map(str, theirs.get("target_names", ())))
    parts = [data.arrays(split) for split in SPLITS]
    read = {(*map(float, row), float(np.ravel(y)[0])) for x, ys in parts for row, y in zip(x, ys, strict=True)}
    assert read == {
        (*map(float, row), float(y)) for row, y in zip(theirs.data.astype(np.float32), theirs.target, strict=True)
    }


def test_a_table_that_scikit_learn_has_not() -> None:
    with pytest.raises(DataError, match="one of breast_cancer, diabetes, iris, wine"):
        open_data(DataConfig(reader="sklearn", source="titanic"))
    with pytest.raises(DataError, match=r"data.problem.*write regression"):
        open_data(DataConfig(reader="sklearn", source="diabetes"))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = """
import sys
import tasks.data
print(sorted({"tensorflow", "sklearn", "pyarrow", "PIL", "pandas"} & set(sys.modules)))
tasks.data.open_data(tasks.data.DataConfig())
print("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "False"]


def test_opening_again_reads_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=RANDOM.random((60, 3)), y=np.arange(60) % 3)
    config = DataConfig(reader="npz", source=str(tmp_path / "d.npz"))
    first = open_data(config)
    assert open_data(config) is first
    np.savez(tmp_path / "d.npz", x=RANDOM.random((61, 3)), y=np.arange(61) % 3)
    assert sum(open_data(config).counts.values()) == 61


def test_npz_in_one_part(tmp_path: Path) -> None:
    x = RANDOM.random((200, 5)).astype(np.float32)
    np.savez_compressed(tmp_path / "d.npz", x=x, y=np.arange(200) % 4)
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "d.npz")))
    rows = np.concatenate([data.arrays(split)[0] for split in ("train", "validation", "test")])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, x.tolist()))
    assert data.scaling() == "standardize"
    train = data.arrays("train")[0]
    np.testing.assert_allclose(data.input.mean, train.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(data.input.std, train.std(axis=0), rtol=1e-4)


def test_npz_with_splits_of_its_own(tmp_path: Path) -> None:
    parts = {
        f"x_{name}": RANDOM.random((count, 2)) for name, count in (("train", 40), ("validation", 10), ("test", 20))
    }
    parts |= {name.replace("x", "y", 1): np.arange(len(x)) % 2 for name, x in parts.items()}
    np.savez(tmp_path / "d.npz", **parts)
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "d.npz")))
    assert data.counts == {"train": 40, "validation": 10, "test": 20}
    np.testing.assert_array_equal(data.arrays("test")[0], parts["x_test"].astype(np.float32))


def test_npz_with_a_test_file_leaves_its_content_out_of_train(tmp_path: Path) -> None:
    x = RANDOM.random((100, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(100) % 2)
    np.savez(tmp_path / "b.npz", x=x[:30], y=np.arange(30) % 2)
    config = DataConfig(
        reader="npz", source=str(tmp_path / "a.npz"), test_source=str(tmp_path / "b.npz"), validation=0.1
    )
    data = open_data(config)
    assert data.duplicates == 30
    assert data.counts == {"train": 63, "validation": 7, "test": 30}


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}, [2]], object), y=np.arange(2))
    with pytest.raises(DataError, match="never unpickled"):
        open_data(DataConfig(reader="npz", source=str(tmp_path / "d.npz")))


def test_npz_that_is_cut_off_or_lacks_a_key(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=RANDOM.random((60, 3)), labels=np.arange(60))
    with pytest.raises(DataError, match=r"data.target: 'y'.*labels, x"):
        open_data(DataConfig(reader="npz", source=str(path)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"no \.npz archive"):
        open_data(DataConfig(reader="npz", source=str(path)))


def test_npz_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=RANDOM.random((600, 3)), y=np.arange(600) % 2)
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        open_data(DataConfig(reader="npz", source=str(path)))


def test_parquet_of_images_with_names_in_the_schema(tmp_path: Path) -> None:
    images = pictures(60)
    labels = (np.arange(60) % 3).astype(np.uint8)
    write_parquet(tmp_path / "train.parquet", [png(i) for i in images[:45]], labels[:45], label_names="cat,dog,eel")
    write_parquet(tmp_path / "test.parquet", [png(i) for i in images[45:]], labels[45:])
    data = open_data(DataConfig(reader="parquet", source=str(tmp_path)))
    assert data.classes == ("cat", "dog", "eel")
    assert data.counts["test"] == 15
    x, y = data.arrays("test")
    np.testing.assert_array_equal(x, images[45:])
    np.testing.assert_array_equal(y, labels[45:])
    assert describe(data)["balance"]["test"] == {"cat": 5, "dog": 5, "eel": 5}
    json.dumps(describe(data))


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    images = [{"bytes": png(i), "path": "../../etc/passwd"} for i in pictures(30)]
    table = pa.table({"image": images, "label": np.arange(30) % 2})
    features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "d.parquet")
    data = open_data(DataConfig(reader="parquet", source=str(tmp_path / "d.parquet")))
    assert data.classes == ("no", "yes")
    assert data.input.shape == (4, 4, 3)


def test_parquet_of_lists_for_a_reconstruction(tmp_path: Path) -> None:
    values = RANDOM.random((50, 6)).astype(np.float32)
    pq.write_table(pa.table({"spectrum": pa.array(values.tolist(), pa.list_(pa.float32()))}), tmp_path / "d.parquet")
    config = DataConfig(
        reader="parquet", source=str(tmp_path / "d.parquet"), problem="reconstruction", input="spectrum"
    )
    data = open_data(config)
    x, y = data.arrays("train")
    np.testing.assert_array_equal(x, y)
    assert data.head.output_shape == (6,)
    assert data.head.variance == pytest.approx(x.var(axis=0).mean(), rel=1e-5)


def test_parquet_names_the_row_of_a_bad_image_and_of_a_gap(tmp_path: Path) -> None:
    images = [png(i) for i in pictures(20)]
    images[17] = images[17][:40]
    path = write_parquet(tmp_path / "d.parquet", images, np.arange(20) % 2)
    with pytest.raises(DataError, match=r"row 17.*decoded"):
        open_data(DataConfig(reader="parquet", source=str(path)))
    path = write_parquet(tmp_path / "d.parquet", images[:4], [0, 1, None, 1])
    with pytest.raises(DataError, match="'label' has no value in row 2"):
        open_data(DataConfig(reader="parquet", source=str(path)))


def test_parquet_says_which_columns_there_are(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", [png(i) for i in pictures(4)], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"data.target: 'kind'.*image, label"):
        open_data(DataConfig(reader="parquet", source=str(path), target="kind"))


def test_parquet_files_that_name_classes_differently(tmp_path: Path) -> None:
    images = [png(i) for i in pictures(20)]
    for split, names in (("train", "cat,dog"), ("test", "dog,cat")):
        write_parquet(tmp_path / f"{split}.parquet", images, np.arange(20) % 2, label_names=names)
    with pytest.raises(DataError, match=r"data\.classes.*name different classes"):
        open_data(DataConfig(reader="parquet", source=str(tmp_path)))


FUNCTIONS = """
import numpy as np
x, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
def whole(): return x, y
def halves(): return (x[:30], y[:30]), (x[30:], y[30:])
def chunks():
    for start in range(0, 40, 16):
        yield x[start:start + 16], y[start:start + 16]
def breaks():
    yield x, y
    raise RuntimeError("the disk is gone")
def text(): return "text"
def uneven(): return x, y[:-1]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"functions_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_function_gives_the_same_whole_or_in_chunks(module: str) -> None:
    whole, chunks = (
        open_data(DataConfig(reader="function", source=f"{module}:{name}")) for name in ("whole", "chunks")
    )
    assert whole.digest == chunks.digest
    assert whole.counts == {"train": 28, "validation": 6, "test": 6}


def test_function_gives_its_own_test_split(module: str) -> None:
    assert open_data(DataConfig(reader="function", source=f"{module}:halves")).counts["test"] == 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}:breaks", "the disk is gone"),
        ("{}:text", "str is no data set"),
        ("{}:uneven", "one target for each input"),
        ("{}:gone", "has no function gone"),
        ("no_such_module_here:f", "cannot be imported"),
        ("../evil:f", "package.module:function"),
        ("os.system('x')", "package.module:function"),
    ],
)
def test_function_that_does_not_work(module: str, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(DataConfig(reader="function", source=source.format(module)))


def test_keras_names_are_checked_before_tensorflow() -> None:
    with pytest.raises(DataError, match="cifar10, cifar100"):
        fingerprint(DataConfig(reader="keras", source="../mnist"))
    assert fingerprint(DataConfig(reader="keras", source="mnist")) != fingerprint(
        DataConfig(reader="keras", source="cifar10")
    )


def test_keras_images_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    images = pictures(60, (5, 5))
    loaded = (images[:40], np.arange(40)[:, None] % 2), (images[40:], np.arange(20)[:, None] % 2)
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", lambda: loaded)
    data = open_data(DataConfig(reader="keras", source="mnist"))
    assert data.input.shape == (5, 5, 1)
    assert data.counts == {"train": 34, "validation": 6, "test": 20}

    words = np.empty(60, object)
    words[:] = [[1, number + 2, number * 7 % 100] for number in range(60)]
    loaded = (words[:40], np.arange(40) % 2), (words[40:], np.arange(20) % 2)
    monkeypatch.setattr(tf.keras.datasets.imdb, "load_data", lambda num_words: loaded)
    data = open_data(DataConfig(reader="keras", source="imdb"))
    assert data.input.shape == (2000,)
    assert data.classes == ("negative", "positive")


@pytest.mark.parametrize("reader", [name for name, each in READERS.items() if each.files is not no_files])
def test_a_path_that_is_not_there(reader: str, tmp_path: Path) -> None:
    for function in (open_data, fingerprint):
        with pytest.raises(DataError, match="no such file"):
            function(DataConfig(reader=reader, source=str(tmp_path / "gone")))
        with pytest.raises(DataError, match="needs a path"):
            function(DataConfig(reader=reader))


def test_a_field_that_the_reader_would_pass_over() -> None:
    with pytest.raises(DataError, match=r"data.image_size: 32.*'digits' does not use"):
        open_data(DataConfig(image_size=32))


def test_fingerprint_knows_content_and_not_place(tmp_path: Path) -> None:
    def written(folder: str, seed: int) -> DataConfig:
        (tmp_path / folder).mkdir()
        x = np.random.default_rng(seed).random((10, 2))
        np.savez(tmp_path / folder / "d.npz", x=x, y=np.arange(10))
        return DataConfig(reader="npz", source=str(tmp_path / folder / "d.npz"))

    one, same, other = written("one", 0), written("same", 0), written("other", 1)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one.model_copy(update={"scaling": "none", "memory_mib": 16}))
    assert fingerprint(one) != fingerprint(one.model_copy(update={"split_seed": 1}))


def test_the_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits = load_digits()
    dataset = open_data(DataConfig(reader="digits"))
    rows = [dataset.arrays(split) for split in SPLITS]
    ours = sorted((label, image.tobytes()) for x, y in rows for image, label in zip(x, y, strict=True))
    theirs = digits.images.astype(np.float32)[..., None]
    assert ours == sorted((label, image.tobytes()) for image, label in zip(theirs, digits.target, strict=True))
