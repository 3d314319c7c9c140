"""Data sets by name. Their packages are extras of ours: what needs one is run where it is installed."""

import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.contract.errors import DataError
from tasks.data import READERS, DataConfig, fingerprint, open_data

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)
NUMBERS = np.random.default_rng(1).random((40, 6)).astype(np.float32)

# Two inputs and two outputs of the same rows, and what is to come of them.
SEVERAL = {
    "input": "image, numbers",
    "heads": ({"name": "answer", "target": "label"}, {"name": "size", "problem": "regression", "target": "numbers"}),
}


def check_several(config: DataConfig, split: str) -> None:
    """What a reader gives of `SEVERAL` in a split, in whatever order."""
    source = READERS[config.reader].read(DataConfig(**config.model_dump() | SEVERAL))
    assert (source.classes, source.classes_of) == ((), {"label": ("no", "yes")})
    chunks = [(source.decode(x), y) for x, y in source.parts[split]()]
    x, y = (np.concatenate(each) for each in zip(*chunks, strict=True))
    assert (x.dtype.names, y.dtype.names) == (("image", "numbers"), ("label", "numbers"))
    np.testing.assert_array_equal(x["numbers"], y["numbers"])
    rows = [np.flatnonzero((numbers == NUMBERS).all(axis=1))[0] for numbers in x["numbers"]]
    assert sorted(rows) == list(range(30) if split == "train" else range(30, 40))
    np.testing.assert_array_equal(x["image"], IMAGES[rows])
    np.testing.assert_array_equal(y["label"], np.array(rows) % 2)


HERE = {name: importlib.util.find_spec(name) is not None for name in ("datasets", "tensorflow_datasets")}


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("reader", "package"), [("huggingface", "datasets"), ("tfds", "tensorflow_datasets")])
def test_a_package_that_is_missing_is_named_with_the_extra_that_installs_it(reader: str, package: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data
try:
    open_data(DataConfig(reader={reader!r}, source="mnist"))
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert f"data.reader: '{reader}': needs the package {package}" in done.stdout
    assert f"pip install 'slimline[{reader}]'" in done.stdout


@pytest.mark.parametrize("name", ["", "../a/b", "a/b/c", "a b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(DataError, match=r"data.source.*user/name"):
        open_data(DataConfig(reader="huggingface", source=name))


@pytest.mark.skipif(not HERE["datasets"], reason="needs the package datasets: pip install 'slimline[huggingface]'")
def test_a_data_set_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "me" / "things").mkdir(parents=True)
    import datasets

    for split, rows in (("train", range(30)), ("test", range(30, 40))):
        columns = {
            "image": [{"bytes": png(IMAGES[row]), "path": None} for row in rows],
            "label": [row % 2 for row in rows],
            "numbers": [NUMBERS[row] for row in rows],
            "text": ["a text"] * len(rows),
            "patient": [f"p{row // 4}" for row in rows],
        }
        features = datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["no", "yes"]),
                "numbers": datasets.List(datasets.Value("float32"), length=6),
                "text": datasets.Value("string"),
                "patient": datasets.Value("string"),
            }
        )
        table = pa.table(columns, schema=features.arrow_schema)
        pq.write_table(table, tmp_path / "me" / "things" / f"{split}.parquet")
    config = DataConfig(reader="huggingface", source="me/things")
    data = open_data(config)
    assert data.classes == ("no", "yes")
    np.testing.assert_array_equal(data.arrays("test")[0], IMAGES[30:])
    np.testing.assert_array_equal(data.arrays("test")[1], np.arange(30, 40) % 2)
    numbers = open_data(config.model_copy(update={"input": "numbers", "group": "patient"}))
    np.testing.assert_array_equal(numbers.arrays("test")[0], NUMBERS[30:])
    assert sum(numbers.counts.values()) == 38, "of patient 7 two rows are in test"
    check_several(config, "train")
    assert len(fingerprint(config)) == 64
    for wrong, message in (
        ({"input": "text"}, "holds texts.*token ids"),
        ({"input": "gone"}, "it has image, label"),
        ({"source": "me/gone"}, "datasets cannot load it"),
    ):
        with pytest.raises(DataError, match=message):
            open_data(config.model_copy(update=wrong))


@pytest.mark.skipif(
    not HERE["tensorflow_datasets"], reason="needs the package tensorflow_datasets: pip install 'slimline[tfds]'"
)
def test_a_data_set_of_tensorflow_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))

    class ThingsOfOurs(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(5, 4, 3)),
                "label": tfds.features.ClassLabel(names=["no", "yes"]),
                "numbers": tfds.features.Tensor(shape=(6,), dtype=np.float32),
                "text": tfds.features.Text(),
                "patient": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, manager: object) -> dict[str, object]:
            return {"train": self._generate_examples(range(30)), "test": self._generate_examples(range(30, 40))}

        def _generate_examples(self, rows: range) -> object:
            for row in rows:
                yield (
                    row,
                    {
                        "image": IMAGES[row],
                        "label": row % 2,
                        "numbers": NUMBERS[row],
                        "text": "a text",
                        "patient": f"p{row // 4}",
                    },
                )

    config = DataConfig(reader="tfds", source="things_of_ours")
    data = open_data(config)
    assert data.classes == ("no", "yes")
    x, y = data.arrays("test")
    known = {image.astype(np.uint8).tobytes(): label for image, label in zip(x, y, strict=True)}
    assert known == {IMAGES[row].tobytes(): row % 2 for row in range(30, 40)}
    numbers = open_data(config.model_copy(update={"input": "numbers", "group": "patient"}))
    assert {row.tobytes() for row in numbers.arrays("test")[0]} == {row.tobytes() for row in NUMBERS[30:]}
    assert sum(numbers.counts.values()) == 38
    check_several(config, "test")
    assert len(fingerprint(config)) == 64
    for wrong, message in (
        ({"input": "text"}, "holds texts.*token ids"),
        ({"input": "gone"}, "it has image, label"),
        ({"source": "no_such_set_of_ours"}, "tensorflow_datasets cannot load it"),
    ):
        with pytest.raises(DataError, match=message):
            open_data(config.model_copy(update=wrong))
