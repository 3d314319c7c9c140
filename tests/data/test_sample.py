"""Samples: each class has its share, whatever the order of the source, and any beginning is a sample as well."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset
from tasks.data.opening import read_dataset
from tasks.data.sample import drawn_order, newest, reservoir
from tasks.data.source import Source

LABELS = np.repeat([0, 1, 2], [600, 300, 100])  # sorted by class
VALUES = np.random.default_rng(0).normal(LABELS[:, None] * 10, 1, (1000, 3)).astype(np.float32)


def dataset(x=VALUES, y=LABELS, *, streamed: bool = False, decoded: list[int] | None = None) -> Dataset:
    def part() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), 64):
            yield x[start : start + 64], y[start : start + 64]

    def decode(values: np.ndarray) -> np.ndarray:
        if decoded is not None:
            decoded.append(len(values))
        return values

    config = DataConfig().model_copy(update={"memory_mib": 0} if streamed else {})
    return read_dataset(Source({"all": part}, decode=decode), config)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("count", [10, 100, 333])
def test_each_class_has_its_share_of_a_source_sorted_by_class(streamed: bool, count: int) -> None:
    data = dataset(streamed=streamed)
    x, y = data.sample("train", count)
    expected = count * np.bincount(data.targets["train"]) / data.counts["train"]
    assert len(x) == len(y) == count
    assert (np.abs(np.bincount(y, minlength=3) - expected) <= 1).all()
    np.testing.assert_array_equal((x.mean(axis=1) / 10).round().astype(int), y)  # inputs and targets of the same rows
    first, _ = data.sample("train", 10)
    np.testing.assert_array_equal(first, x[:10])


@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_examples_in_whatever_order_they_lie(streamed: bool) -> None:
    rows = np.random.default_rng(1).permutation(1000)
    one, other = dataset().sample("test", 50), dataset(VALUES[rows], LABELS[rows], streamed=streamed).sample("test", 50)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_of_what_streams_only_the_sample_is_decoded() -> None:
    decoded: list[int] = []
    data = dataset(streamed=True, decoded=decoded)
    decoded.clear()
    data.sample("train", 20)
    assert sum(decoded) == 20


def test_a_source_that_changed_is_refused_where_only_a_sample_is_read() -> None:
    x = [VALUES]
    source = Source({"all": lambda: iter([(x[0], LABELS[: len(x[0])])])})
    data = read_dataset(source, DataConfig().model_copy(update={"memory_mib": 0}))
    x[0] = VALUES[:10]
    with pytest.raises(DataError, match="changed while it was in use"):
        data.sample("train", 20)


@given(
    contents=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    classes=st.integers(1, 4),
)
def test_every_beginning_is_stratified_and_no_row_is_drawn_twice(contents: list[int], classes: int) -> None:
    """Rows of the same content count each by itself."""
    strata = np.arange(len(contents)) % classes
    order = drawn_order(np.array(contents, np.uint64), strata)
    assert sorted(order) == list(range(len(contents)))
    sizes = np.bincount(strata)
    for count in range(len(contents) + 1):
        taken = np.bincount(strata[order[:count]], minlength=len(sizes))
        # rounding of each class moves the beginning at which a share is reached by at most as many rows
        assert (np.abs(taken - count * sizes / len(contents)) <= classes).all()


def test_each_row_is_as_likely_as_any_other_also_of_a_class_that_has_one() -> None:
    """A mean over a sample would lean to the large classes otherwise, or to the small ones."""
    draw = np.random.default_rng(0)
    strata = np.concatenate([np.zeros(500, np.int64), np.arange(1, 501)])
    singles = [
        (strata[drawn_order(draw.integers(0, 2**63, 1000, np.uint64), strata)[:100]] > 0).sum() for _ in range(60)
    ]
    assert np.mean(singles) == pytest.approx(50, abs=4)


def test_a_content_that_is_common_is_common_in_a_sample() -> None:
    contents = np.concatenate([np.zeros(900, np.uint64), np.arange(1, 101, dtype=np.uint64)])
    common = contents[drawn_order(contents, np.zeros(1000, np.int64))[:200]] == 0
    assert common.sum() == pytest.approx(180, abs=20)


def chunks(count: int = 1000, size: int = 37) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        yield rows[:, None].astype(np.float32), np.array([f"{10 ** (row // 250)}" for row in rows])


def test_a_reservoir_draws_evenly_from_what_it_cannot_see_the_end_of() -> None:
    (x, y), seen = reservoir(chunks(), 200)
    (again, _), _ = reservoir(chunks(), 200)
    np.testing.assert_array_equal(x, again)
    assert (seen, len(x), len(set(x[:, 0]))) == (1000, 200, 200)
    quarters = np.bincount((x[:, 0] // 250).astype(int))
    assert (np.abs(quarters - 50) < 20).all()
    assert [str(10 ** int(row // 250)) for row in x[:, 0]] == list(y)  # pairs, and names longer than the first ones


@pytest.mark.parametrize("take", [reservoir, newest])
def test_all_of_a_stream_that_is_shorter_and_none_of_an_empty_one(take) -> None:
    (x, y), seen = take(chunks(100), 200)
    assert (seen, len(y)) == (100, 100)
    np.testing.assert_array_equal(x[:, 0], np.arange(100))
    assert take(iter(()), 200) == (None, 0)
