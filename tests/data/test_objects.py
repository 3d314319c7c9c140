"""What a function or a program has in hand: data sets of TensorFlow, Keras and pandas, read as arrays."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.contract.errors import DataError
from tasks.data import open_data
from tasks.data.config import DataConfig
from tasks.data.dataset import Dataset
from tasks.data.in_memory import keep_arrays
from tasks.data.new import open_new
from tasks.data.objects import by_part, columns_of, part_of
from tasks.data.opening import read_dataset
from tasks.data.source import Source

X = np.random.default_rng(0).random((60, 6, 3)).astype(np.float32)
Y = np.arange(60) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[Y]


def opened(value: Any, **config: object) -> Dataset:
    parts = {part: part_of(each, "mine:load") for part, each in by_part(value).items()}
    return read_dataset(Source(parts), DataConfig(**config))


def batches(count: int = 16) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(X[at : at + count], Y[at : at + count]) for at in range(0, 60, count)]


def sequence_of(library: str) -> Any:
    """A data set as people write it for `fit`, of whichever Keras."""
    import importlib

    utils = importlib.import_module(library).utils
    base = getattr(utils, "PyDataset", None) or utils.Sequence

    class Batches(base):  # type: ignore[misc, valid-type]
        def __len__(self) -> int:
            return len(batches())

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            return batches()[number]

    return Batches()


def slices(*arrays: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


@pytest.mark.parametrize(
    "given",
    [
        lambda: (X, Y),
        lambda: (X.tolist(), Y.tolist()),
        lambda: (X, tuple(Y)),
        lambda: (X, pd.Series(Y)),
        lambda: (X, pd.DataFrame({"kind": Y})),
        lambda: (X, pd.DataFrame(ONE_HOT)),
        lambda: (X, ONE_HOT),
        lambda: batches(),
        lambda: iter(batches()),
        lambda: slices(X, Y),
        lambda: slices(X, Y).batch(16),
        lambda: slices(X, Y).batch(16).prefetch(2),
        lambda: slices(X, ONE_HOT),  # (6, 3) beside (3,): no batch
        lambda: slices(X, ONE_HOT).batch(7),
        lambda: sequence_of("keras"),
        lambda: sequence_of("tf_keras"),
    ],
)
def test_the_same_data_in_every_form_are_the_same_data_set(given: Callable[[], Any]) -> None:
    assert opened(given()).digest == opened((X, Y)).digest


NAMED = {"image": X, "table": X[:, 0], "age": Y}
HEADS = ({"name": "kind"}, {"name": "box", "problem": "regression"})
ANSWERS = {"kind": np.array(["cat", "dog", "owl"])[Y], "box": X[:, 1]}


def named_batches() -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Chunks of dicts, of which the first has the shortest names of classes alone."""
    taken = [slice(at, at + 16) for at in range(0, 60, 16)]
    return [tuple({name: each[rows] for name, each in of.items()} for of in (NAMED, ANSWERS)) for rows in taken]


def named_sequence(library: str) -> Any:
    sequence = sequence_of(library)
    type(sequence).__getitem__ = lambda _, number: named_batches()[number]
    return sequence


@pytest.mark.parametrize(
    "given",
    [
        lambda: ({**NAMED, "age": Y.tolist()}, {"kind": [*ANSWERS["kind"]], "box": pd.DataFrame(X[:, 1])}),
        lambda: ({**NAMED, "table": pd.DataFrame(X[:, 0])}, {**ANSWERS, "kind": pd.Series(ANSWERS["kind"])}),
        lambda: (NAMED, {**ANSWERS, "more": Y}),
        lambda: named_batches(),
        lambda: iter(named_batches()),
        lambda: slices(NAMED, ANSWERS),
        lambda: slices(NAMED, ANSWERS).batch(16),
        lambda: named_sequence("keras"),
        lambda: named_sequence("tf_keras"),
    ],
)
def test_the_same_dicts_in_every_form_are_the_same_data_set(given: Callable[[], Any]) -> None:
    data = opened(given(), heads=HEADS)
    assert data.digest == opened((NAMED, ANSWERS), heads=HEADS).digest
    assert data.input_shapes == {"image": (6, 3), "table": (3,), "age": (1,)}
    assert data.output_shapes == {"kind": (3,), "box": (3,)}
    x, y = data.arrays("train")
    for image, table, kind, box in zip(x["image"], x["table"], y["kind"], y["box"], strict=True):
        (row,) = np.flatnonzero((image == X).all(axis=(1, 2)))
        np.testing.assert_array_equal([table, box], [X[row, 0], X[row, 1]])
        assert kind == Y[row]


def test_splits_of_dicts_stay_what_they_are() -> None:
    rows = {"train": slice(0, 36), "test": slice(36, 60)}
    pairs = [
        tuple({name: each[part] for name, each in of.items()} for of in (NAMED, ANSWERS)) for part in rows.values()
    ]
    data = opened(tuple(pairs), heads=HEADS)
    np.testing.assert_array_equal(data.arrays("test")[0]["table"], X[36:, 0])
    np.testing.assert_array_equal(data.arrays("test")[1]["box"], X[36:, 1])


@pytest.mark.parametrize(
    ("answers", "heads", "message"),
    [
        (ANSWERS, (), r"data.heads.*the targets have names.*name: kind, .*name: box"),
        ({"kind": Y, "more": X}, HEADS, "data.heads: 'box'.*it has kind, more"),
        (Y, HEADS, "data.heads: 'kind'.*it has one, without a name"),
    ],
)
def test_names_of_targets_and_of_heads_belong_together(answers: Any, heads: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened((NAMED, answers), heads=heads)


def test_a_dict_of_one_is_what_it_holds() -> None:
    assert opened(({"image": X}, {"kind": Y})).digest == opened((X, Y)).digest


def test_a_frame_is_read_column_by_column_and_keeps_their_names() -> None:
    frame = pd.DataFrame(X[:, :, 0], columns=[f"c{n}" for n in range(6)]).assign(c1=np.arange(60), c2=Y > 0)
    x = opened((frame, pd.Series(Y))).arrays("train")[0]
    assert {row.tobytes() for row in x} <= {row.tobytes() for row in frame.to_numpy(np.float32)}
    assert columns_of((frame, pd.Series(Y, name="kind"))) == (tuple(frame.columns), ("kind",))
    for wrong, message in ((["red", "blue"] * 30, "column 'c3'.*no numbers"), ([None, *range(59)], "NaN|gaps")):
        with pytest.raises(DataError, match=message):
            opened((frame.assign(c3=wrong), Y))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda train, validation, test: (train, validation, test),
        lambda train, validation, test: {"test": test, "train": train, "validation": validation},
        lambda *pairs: tuple(slices(*pair).batch(8) for pair in pairs),
        lambda *pairs: tuple((pd.DataFrame(x.reshape(len(x), -1)), list(y)) for x, y in pairs),
    ],
)
def test_three_splits_stay_three_splits(wrap: Callable[..., Any]) -> None:
    rows = {"train": slice(0, 30), "validation": slice(30, 45), "test": slice(45, 60)}
    data = opened(wrap(*((X[each], Y[each]) for each in rows.values())))
    for split, each in rows.items():
        np.testing.assert_array_equal(data.arrays(split)[0].reshape(-1, 18), X[each].reshape(-1, 18))
        np.testing.assert_array_equal(data.arrays(split)[1], Y[each])


def test_a_test_set_of_its_own_is_never_trained_on() -> None:
    data = opened(((X[:40], Y[:40]), (X[40:], Y[40:])))
    held = {row.tobytes() for row in X[40:]}
    assert {row.tobytes() for row in data.arrays("test")[0]} == held
    for split in ("train", "validation"):
        assert not held & {row.tobytes() for row in data.arrays(split)[0]}


def test_a_reconstruction_needs_no_targets() -> None:
    for given in ((X, None), slices(X).batch(8)):
        assert opened(given, problem="reconstruction").head.output_shape == (6, 3)


def test_texts_of_tensorflow_are_names() -> None:
    names = np.array(["cat", "dog", "owl"])[Y]
    assert opened(slices(X, names)).digest == opened((X, names)).digest
    for each in (names.astype("S3"), pd.Series(names), pd.DataFrame({"kind": names}), [*names]):
        assert opened((X, each)).digest == opened((X, names)).digest


def ragged() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_generator(lambda: iter([]), output_signature=tf.RaggedTensorSpec((None, None)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: (X, Y, np.ones(59)), r"weights: float64 \(59,\) for 60 inputs': a sample weight is one number"),
        (lambda: (X, Y, {"a": np.ones(60)}), "a sample weight is one number for each input"),
        (lambda: slices(X, Y, np.ones((60, 2))), r"\(60, 2\) for 60 inputs': a sample weight is one number"),
        (lambda: ((X, X), Y), "2 arrays in a tuple: several inputs or outputs are a dict.*by the model's names"),
        (lambda: ([X, X[:, 0]], Y), "2 arrays in a list: several inputs or outputs are a dict"),
        (
            lambda: ({"a": X, "b": X}, (Y, ONE_HOT)),
            "targets.*2 arrays in a tuple: several inputs or outputs are a dict",
        ),
        (lambda: ({"a": X, "b": [X, X[:, 0]]}, Y), "inputs: b'.*2 arrays in a list"),
        (lambda: ({"a": X, "b": X[:9]}, Y), r"a \(60, 6, 3\), b \(9, 6, 3\): need.*as many examples"),
        (lambda: ({"a-b": X, "a_b": X}, Y), "need a name of their own each"),
        (lambda: ({}, Y), "an empty dict; give"),
        (lambda: ({"a": 5}, Y), "inputs: a': one int is no array of examples"),
        (lambda: (X, {"kind": Y, "box": Y[:9]}), "kind 60, box 9': give one target of each output for each input"),
        (lambda: slices({"a": {"b": X}}, Y), "dicts of tensors by the names of inputs and outputs"),
        (lambda: slices(((X, X), Y)), "a tensor each, or dicts of tensors"),
        (ragged, "a tensor each"),
        (lambda: ([[1, 2], [3]], [0, 1]), "every example needs the same shape"),
        (lambda: slices(X, Y).repeat(), "has no end: leave out repeat"),
        (lambda: slices(X, Y).shuffle(60), "another order.*leave shuffling"),
        (lambda: slices(X, Y).batch(16, drop_remainder=True), "without drop_remainder"),
        (lambda: slices(X), "nothing tells a batch from an example"),
        (lambda: slices(X, Y).map(lambda x, y: (1 // (y - 5 * 0 - y), y)), "raised InvalidArgumentError"),
        (lambda: X, "ndarray is no data set; give \\(x, y\\)"),
        (lambda: 5, "int is no data set"),
        (lambda: [X], "gave ndarray"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_way_out(given: Callable[[], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(given())


def test_what_streams_in_another_order_each_time_is_refused_and_never_mixed_up() -> None:
    """Targets and splits are of the first pass: a second one in another order would train on test examples."""
    draw = np.random.default_rng(0)

    def shuffled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = draw.permutation(60)
        yield from ((X[order[at : at + 10]], Y[order[at : at + 10]]) for at in range(0, 60, 10))

    source = Source({"all": part_of(shuffled(), "mine:load", shuffled)})
    with pytest.raises(DataError, match=r"changed while it was in use.*same order each time"):
        read_dataset(source, DataConfig().model_copy(update={"memory_mib": 0}))


def test_a_function_s_frames_are_known_by_their_columns_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames.py").write_text(
        "import numpy as np, pandas as pd\n"
        "table = pd.DataFrame(np.random.default_rng(0).random((60, 3)), columns=list('abc'))\n"
        "kind = pd.Series(np.arange(60) % 2, name='kind')\n"
        "def load(): return table, kind\n"
        "def turned(): return table[['c', 'd', 'b', 'a']] if 'd' in table else table[['c', 'b', 'a']], kind\n"
        "def short(): return table[['a', 'b']], kind\n"
    )
    monkeypatch.chdir(tmp_path)
    config = DataConfig(reader="function", source="frames:load")
    data = open_data(config)
    assert (data.columns, data.head.target_columns) == (("a", "b", "c"), ("kind",))

    def new(name: str) -> np.ndarray:
        source = config.model_copy(update={"source": f"frames:{name}"})
        learned = {"columns": data.columns, "inputs": data.input_shapes, "heads": data.heads}
        return open_new(source, labels=True, limit=60, **learned).x

    np.testing.assert_array_equal(new("turned"), new("load"))
    with pytest.raises(DataError, match=r"frames:short: c.*it has a, b"):
        new("short")


def test_a_program_s_data_sets_are_kept_as_the_arrays_they_are(tmp_path: Path) -> None:
    assert keep_arrays(slices(X, Y).batch(7), tmp_path) == keep_arrays((X, Y), tmp_path)
    splits = keep_arrays(((X[:30], Y[:30]), slices(X[30:45], Y[30:45]).batch(4), (X[45:], list(Y[45:]))), tmp_path)
    with np.load(splits.file) as kept:
        assert sorted(kept) == [f"{name}_{split}" for name in "xy" for split in ("test", "train", "validation")]
        np.testing.assert_array_equal(kept["x_validation"], X[30:45])
    with pytest.raises(DataError, match=r"data: .*no data set"):
        keep_arrays(5, tmp_path)
