"""Data that cannot be trained on are refused, with the field, the value and the way out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, open_data
from tasks.data.opening import read_dataset
from tasks.data.source import Source, array_part
from tasks.data.statistics import statistics_of

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

X = np.random.default_rng(0).random((60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def opened(x: np.ndarray, y: np.ndarray | None, names: tuple[str, ...] = (), **config: object) -> Dataset:
    return read_dataset(Source({"all": array_part(x, y)}, names), DataConfig(**config))


def test_good_data_pass() -> None:
    assert opened(X, Y).counts == {"train": 42, "validation": 9, "test": 9}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(bad: float) -> None:
    x = X.copy()
    x[31, 2] = bad
    with pytest.raises(DataError, match=r"data.input.*NaN or infinite"):
        opened(x, Y)


def test_inputs_that_float32_cannot_hold() -> None:
    x = X.astype(np.float64)
    x[3] = 1e300
    with pytest.raises(DataError, match="NaN or infinite"):
        opened(x, Y)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(object), "object inputs"),
        (X.astype(str), "inputs are numbers"),
        (X.astype(complex), "inputs are numbers"),
        (X[:, 0], "need an axis"),
        (X[:, :0], "need an axis"),
        (X[:0], "empty"),
    ],
)
def test_inputs_of_the_wrong_kind(x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(x, Y[: len(x)])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y + 0.5, "whole numbers"),
        (np.arange(1, 61), "labels 1 to 60': number the labels 0"),
        (Y * 1000, "labels 0 to 2000"),
        (np.eye(3)[Y].round() + np.eye(3)[(Y + 1) % 3], "multilabel"),
        (np.zeros(60, int), "at least two"),
        (np.where(np.arange(60) == 7, 3, Y), "has no '3'"),
        (np.array([1, "a"] * 30, object), "labels are all names"),
    ],
)
def test_labels_that_are_none(y: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=f"data.target.*{message}"):
        opened(X, y)


@pytest.mark.parametrize(
    ("numbers", "note"),
    [
        ((1, 2, 3), "Labels 1, 2 and 3 are classes 0 to 2."),
        ((-1, 1), "Labels -1 and 1 are classes 0 to 1."),
        ((-1, 0, 1), "Labels -1, 0 and 1 are classes 0 to 2."),
        ((3, 4, 5, 6, 7, 8), "Labels 3 to 8 are classes 0 to 5."),
        ((10.0, 200.0), "Labels 10 and 200 are classes 0 to 1."),
        ((False, True), None),
        ((0, 1), None),
    ],
)
def test_whole_numbers_that_do_not_begin_at_0_are_the_names_of_classes_and_that_is_said(numbers, note) -> None:
    place = np.arange(60) % len(numbers)
    data, named = opened(X, np.array(numbers)[place]), opened(X, place)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(data.targets[split], named.targets[split])
    assert data.classes == tuple(str(int(number)) for number in numbers)
    assert data.notes == ((note,) if note else ())
    assert opened(X, np.array(numbers)[place], classes=data.classes).notes == ()


def test_class_names_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="0 to 1, as there are 2 class names"):
        opened(X, Y, classes=("a", "b"))
    with pytest.raises(DataError, match=r"data.classes.*also hold 'c'"):
        opened(X, np.array(list("abc"))[Y], classes=("a", "b"))
    with pytest.raises(DataError, match="the source has 3 classes"):
        opened(X, Y, ("x", "y", "z"), classes=("a", "b"))
    with pytest.raises(DataError, match="twice"):
        opened(X, Y, classes=("a", "b", "a"))
    with pytest.raises(DataError, match="has no classes"):
        opened(X, Y, classes=("a", "b"), problem="regression")


def test_class_names_given_win_and_order_the_labels() -> None:
    assert opened(X, Y, ("x", "y", "z"), classes=("a", "b", "c")).classes == ("a", "b", "c")
    data = opened(X, np.array(list("abc"))[Y], classes=("c", "b", "a"))
    x, y = data.arrays("train")
    place = {row.tobytes(): number for number, row in enumerate(X)}
    np.testing.assert_array_equal(y, [2 - place[row.tobytes()] % 3 for row in x])


def test_a_regression_on_what_does_not_vary_or_is_no_number() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        opened(X, np.ones(60), problem="regression")
    with pytest.raises(DataError, match="numbers"):
        opened(X, Y.astype(str), problem="regression")
    with pytest.raises(DataError, match="NaN"):
        opened(X, np.where(Y == 1, np.nan, Y), problem="regression")


def test_one_example_repeated_leaves_a_split_empty() -> None:
    with pytest.raises(DataError, match="split empty"):
        opened(np.ones((20, 4)), Y[:20], problem="regression")


def test_parts_that_differ_in_shape_or_type() -> None:
    for other in (X[:, :3], (X * 255).astype(np.uint8)):
        source = Source({"train": array_part(X, Y), "test": array_part(other, Y)})
        with pytest.raises(DataError, match="same shape and type"):
            read_dataset(source, DataConfig())


def test_augmenting_what_is_no_image() -> None:
    with pytest.raises(DataError, match=r"data.flip: True.*no images"):
        opened(X, Y, flip=True)
    with pytest.raises(DataError, match=r"data.shift: 3"):
        opened(X.reshape(60, 2, 2, 1), Y, shift=3)


def test_limit_takes_the_first_of_each_part() -> None:
    assert sum(opened(X, Y, limit=30).counts.values()) == 30


def test_config_bounds() -> None:
    for wrong in (
        {"validation": 0},
        {"test": 0.5},
        {"limit": -1},
        {"reader": "excel"},
        {"sauce": "x"},
        {"memory_mib": 1},
    ):
        with pytest.raises(ValidationError):
            DataConfig(**wrong)
    positions = [extra.json_schema_extra["position"] for extra in DataConfig.model_fields.values()]
    assert positions == list(range(len(positions)))


def test_treatment_is_what_the_digest_does_not_cover() -> None:
    image = (X * 255).astype(np.uint8).reshape(60, 2, 2, 1)
    plain, treated = opened(image, Y), opened(image, Y, flip=True, scaling="none")
    assert plain.digest == treated.digest
    assert plain.config.treatment != treated.config.treatment


def test_digest_covers_labels_names_problem_and_splits() -> None:
    digests = {
        opened(X, Y).digest,
        opened(X, (Y + 1) % 3).digest,
        opened(X, Y, classes=("a", "b", "c")).digest,
        opened(X, Y, problem="regression").digest,
        opened(X, Y, split_seed=1).digest,
        opened(X + 1, Y).digest,
    }
    assert len(digests) == 6
    assert opened(X.astype(np.float64), Y.astype(np.int8)).digest in digests


@given(
    hnp.arrays(np.float32, (23, 3, 2), elements=st.floats(-1e4, 1e4, width=32)),
    st.lists(st.integers(1, 22), unique=True, max_size=4),
)
def test_statistics_by_chunks_are_those_of_the_whole(x: np.ndarray, cuts: list[int]) -> None:
    statistics = statistics_of(np.split(x, sorted(cuts)))
    double = x.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, double.mean(axis=(0, 1)), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(statistics.std, double.std(axis=(0, 1)), rtol=1e-7, atol=1e-6)
    assert statistics.variance == pytest.approx(double.var(axis=0).mean(), rel=1e-7, abs=1e-6)
    assert (statistics.minimum, statistics.maximum) == (x.min(), x.max())


def test_splits_of_duplicated_examples_share_none(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 5, (400, 2))
    np.savez(tmp_path / "d.npz", x=x, y=x.sum(axis=1) % 2)
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "d.npz")))
    rows = [set(map(tuple, data.arrays(split)[0].tolist())) for split in ("train", "validation", "test")]
    assert sum(map(len, rows)) == len(rows[0] | rows[1] | rows[2]) == 25
