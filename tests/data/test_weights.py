"""What each example counts: a column or key, or the third that a function gives beside inputs and targets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import pictures, png

from tasks.contract.errors import DataError
from tasks.data import READERS, DataConfig, open_data
from tasks.data.beside import weights_of
from tasks.data.in_memory import keep_arrays
from tasks.data.objects import part_of
from tasks.data.scan import scan
from tasks.data.source import Source, digest_of

ROWS = 150
X = np.random.default_rng(0).random((ROWS, 3)).astype(np.float32)
Y = np.arange(ROWS) % 2
WEIGHT = np.arange(ROWS, dtype=np.float64) / 2


def weights(source: Source, config: DataConfig) -> dict[str, np.ndarray]:
    return weights_of(source, config, scan(source, config))


def chunks(*arrays: Any) -> Iterator[Any]:
    yield from (tuple(each[at : at + 40] for each in arrays) for at in range(0, ROWS, 40))


def slices(*arrays: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays)


@pytest.mark.parametrize(
    "given",
    [
        lambda: (X, Y, WEIGHT),
        lambda: (X, Y, WEIGHT.tolist()),
        lambda: (X, Y, pd.Series(WEIGHT)),
        lambda: [*chunks(X, Y, WEIGHT)],
        lambda: slices(X, Y, WEIGHT),
        lambda: slices(X, Y, WEIGHT).batch(16),
        lambda: ({"a": X, "b": X}, Y, WEIGHT),
    ],
)
def test_the_third_is_what_examples_count(given: Any) -> None:
    part = part_of(given(), "mine:load")
    source = Source({"all": part}, weights=lambda name: part.weights())
    np.testing.assert_array_equal(weights(source, DataConfig())["all"], WEIGHT)
    np.testing.assert_array_equal(weights(source, DataConfig(limit=50))["all"], WEIGHT[:50])


def test_a_generator_s_weights_are_met_in_the_pass_that_reads_its_examples() -> None:
    passes = []

    def load() -> Iterator[Any]:
        passes.append(1)
        yield from chunks(X, Y, WEIGHT)

    part = part_of(load(), "mine:load", load)
    source = Source({"all": part}, weights=lambda name: part.weights())
    np.testing.assert_array_equal(weights(source, DataConfig())["all"], WEIGHT)
    assert len(passes) == 1


def test_without_a_third_there_are_none_and_some_are_refused() -> None:
    part = part_of((X, Y), "mine:load")
    assert weights(Source({"all": part}, weights=lambda name: part.weights()), DataConfig()) == {}
    some = part_of([(X, Y, WEIGHT), (X, Y)], "mine:load")
    with pytest.raises(DataError, match="sample weights with some chunks only"):
        weights(Source({"all": some}, weights=lambda name: some.weights()), DataConfig())
    parts = {"train": part_of((X, Y, WEIGHT), "mine"), "test": part}
    with pytest.raises(DataError, match=r"mine:load: test'.*no sample weights, and others have"):
        weights(Source(parts, weights=lambda name: parts[name].weights()), DataConfig(source="mine:load"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "label": Y, "cost": WEIGHT})
    frame.to_csv(folder / "d.csv", index=False)
    frame.to_pickle(folder / "d.pickle")
    np.savez(folder / "d.npz", x=X, y=Y, cost=WEIGHT)
    pq.write_table(pa.table({"image": X.tolist(), "label": Y, "cost": WEIGHT}), folder / "d.parquet")
    (folder / "weighted_frames.py").write_text(
        f"import pandas as pd\ntable = pd.read_pickle({str(folder / 'd.pickle')!r})\n"
        "def load(): return table[['a', 'b', 'cost']], table['label']\n"
        "def named(): return {'a': table['a'], 'b': table['b'], 'cost': table['cost']}, table['label']\n"
        "def third(): return table[['a', 'b']], table['label'], table['cost']\n"
        "def other(): return table[['a', 'b']], table['label'], table['cost'] + 1\n"
    )
    (folder / "files").mkdir()
    lines = ["file,label,cost"]
    for row, image in enumerate(pictures(ROWS, (4, 4))):
        (folder / "files" / f"{row:03}.png").write_bytes(png(image))
        lines.append(f"{row:03}.png,{Y[row]},{WEIGHT[row]}")
    (folder / "files" / "labels.csv").write_text("\n".join(lines))
    return folder


READ: dict[str, dict[str, Any]] = {
    "csv": {"reader": "table", "source": "d.csv"},
    "npz": {"reader": "npz", "source": "d.npz"},
    "parquet": {"reader": "parquet", "source": "d.parquet"},
    "frame": {"reader": "function", "source": "weighted_frames:load"},
    "dict": {"reader": "function", "source": "weighted_frames:named"},
    "third": {"reader": "function", "source": "weighted_frames:third"},
    "files": {"reader": "folder", "source": "files"},
}


@pytest.mark.parametrize("how", READ)
def test_every_source_with_named_columns_has_them(how: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    config = DataConfig(**READ[how] | ({} if how == "third" else {"weight": "cost"}))
    source = READERS[config.reader].read(config)
    assert "cost" not in source.columns
    (found,) = weights(source, config).values()
    if how == "files":  # which come in an order of their own
        assert sorted(found) == WEIGHT.tolist()
        x, y = next(source.parts["all"]())
        assert [Y[int(2 * weight)] for weight in found[: len(x)]] == y.tolist()
    else:
        np.testing.assert_array_equal(found, WEIGHT)


@pytest.mark.parametrize("how", ["npz", "third"])
def test_a_data_set_has_them_by_split(how: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    config = DataConfig(**READ[how] | ({} if how == "third" else {"weight": "cost"}))
    data = open_data(config)
    assert data.weights["train"].mean() == pytest.approx(1, rel=1e-6)
    known = dict(zip((bytes(each[:2]) for each in X), WEIGHT, strict=True))
    train = np.array([known[bytes(each[:2])] for each in data.arrays("train")[0]])
    for split in data.counts:
        expected = np.array([known[bytes(each[:2])] for each in data.arrays(split)[0]])
        np.testing.assert_allclose(data.weights[split], expected / train.mean(), rtol=1e-6)
    plain = open_data(config.model_copy(update={"weight": ""})) if how == "npz" else None
    assert plain is None or plain.digest != data.digest
    batches = data.batches("train", 16, shuffle_seed=1, weighted=True).as_numpy_iterator()
    for x, _, weights in batches:
        np.testing.assert_allclose(weights, [known[bytes(each[:2])] / train.mean() for each in x], rtol=1e-6)


def test_weights_belong_to_what_a_function_returns(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    read = {name: READERS["function"].read(DataConfig(source=f"weighted_frames:{name}")) for name in ("third", "other")}
    assert digest_of(read["third"]) != digest_of(read["other"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.where(WEIGHT == 3, np.nan, WEIGHT), "cost: all'.*without a value"),
        (WEIGHT - 1, "cost: all: -1 to 73.5': weights are 0 or more, and not all 0"),
        (np.zeros(ROWS), "0 to 0': weights are 0 or more"),
        (np.array(["much"] * ROWS), "a weight is a number"),
        (WEIGHT[:9], r"shape \(9,\) for 150 examples"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path: Path, wrong: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, cost=wrong)
    config = DataConfig(reader="npz", source=str(tmp_path / "d.npz"), weight="cost")
    with pytest.raises(DataError, match=f"data.weight: '.*{message}"):
        weights(READERS["npz"].read(config), config)


@pytest.mark.parametrize("value", [(X, Y, WEIGHT), ((X, Y, WEIGHT), (X, Y, WEIGHT))])
def test_a_program_s_weights_are_kept_under_a_key_that_the_recipe_names(tmp_path: Path, value: Any) -> None:
    kept = keep_arrays(value, tmp_path)
    assert kept.settings == {"reader": "npz", "source": str(kept.file), "weight": "sample_weight"}
    config = DataConfig(**kept.settings)
    for found in weights(READERS["npz"].read(config), config).values():
        np.testing.assert_array_equal(found, WEIGHT)
    assert "weight" not in keep_arrays((X, Y), tmp_path).settings


def test_a_program_s_inputs_and_targets_are_keys_by_their_names(tmp_path: Path) -> None:
    kept = keep_arrays(({"image": X, "age": Y}, {"kind": Y, "box": X}, WEIGHT), tmp_path)
    assert {name: kept.settings[name] for name in ("input", "weight")} == {
        "input": "image, age",
        "weight": "sample_weight",
    }
    with np.load(kept.file) as arrays:
        assert list(arrays) == ["image", "age", "kind", "box", "sample_weight"]
    heads = ({"name": "kind"}, {"name": "box", "problem": "regression"})
    source = READERS["npz"].read(DataConfig(**kept.settings, heads=heads))
    x, y = next(source.parts["all"]())
    np.testing.assert_array_equal(x["age"][:, 0], Y)
    np.testing.assert_array_equal(y["box"], X)
    with pytest.raises(DataError, match=r"data: 'image': is what two .*rename one"):
        keep_arrays(({"image": X, "age": Y}, {"image": X, "kind": Y}), tmp_path)
