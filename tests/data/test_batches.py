"""Batches: the same for the same seed, whether in memory or streamed, and augmented without a state."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset
from tasks.data.opening import read_dataset
from tasks.data.shuffle import rebatched, shuffled
from tasks.data.source import Source

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 6, 5, 3), np.uint8)
LABELS = np.arange(300) % 3


def dataset(*, streamed: bool = False, **config: object) -> Dataset:
    reads = []

    def part() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        reads.append(1)
        for start in range(0, 300, 64):
            yield IMAGES[start : start + 64], LABELS[start : start + 64]

    large = DataConfig(**config)
    small = large.model_copy(update={"memory_mib": 0}) if streamed else large  # below what a recipe may ask for
    data = read_dataset(Source({"all": part}), small)
    assert data.streamed == streamed
    return data


def collected(
    data: Dataset, *, size: int = 32, seed: int | None = None, augment: bool = False
) -> tuple[np.ndarray, ...]:
    batches = list(data.batches("train", size, shuffle_seed=seed, augment=augment).as_numpy_iterator())
    assert [len(x) for x, _ in batches[:-1]] == [size] * (len(batches) - 1)
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


@pytest.mark.parametrize("problem", ["classification", "regression", "reconstruction"])
def test_streamed_is_what_is_in_memory(problem: str) -> None:
    in_memory, streamed = dataset(problem=problem), dataset(streamed=True, problem=problem)
    assert in_memory.digest == streamed.digest
    np.testing.assert_allclose(in_memory.input.mean, streamed.input.mean, rtol=1e-12)
    for split in ("train", "validation", "test"):
        for one, other in zip(in_memory.arrays(split), streamed.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [len(a) for a in streamed.sample(split, 7)] == [7, 7]
        chunks = list(streamed.examples(split))
        np.testing.assert_array_equal(np.concatenate([x for x, _ in chunks]), in_memory.arrays(split)[0])
        np.testing.assert_array_equal(np.concatenate([y for _, y in chunks]), in_memory.arrays(split)[1])
    for one, other in zip(collected(in_memory), collected(streamed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_source_that_changes_between_epochs_is_refused() -> None:
    rows = [300]

    def part() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield IMAGES[: rows[0]], LABELS[: rows[0]]

    data = read_dataset(Source({"all": part}), DataConfig().model_copy(update={"memory_mib": 0}))
    rows[0] = 299
    with pytest.raises(DataError, match="changed while it was in use"):
        data.arrays("train")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_seed_decides_the_order_whatever_came_before(streamed: bool) -> None:
    import tensorflow as tf

    data = dataset(streamed=streamed, flip=True, shift=2, brightness=0.1)
    first = collected(data, seed=5, augment=True)
    tf.random.set_seed(99)
    np.random.default_rng().random()
    collected(data, seed=6, augment=True)
    for one, other in zip(first, collected(data, seed=5, augment=True), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], collected(data, seed=6, augment=True)[0])


@pytest.mark.parametrize("streamed", [False, True])
def test_shuffling_keeps_every_example_with_its_label(streamed: bool) -> None:
    data = dataset(streamed=streamed)
    x, y = data.arrays("train")
    mixed_x, mixed_y = collected(data, seed=1)
    assert mixed_x.dtype == np.float32
    assert not np.array_equal(x, mixed_x)
    pairs = sorted((row.tobytes(), int(label)) for row, label in zip(x, y, strict=True))
    assert pairs == sorted((row.tobytes(), int(label)) for row, label in zip(mixed_x, mixed_y, strict=True))


def test_flip_mirrors_about_half() -> None:
    data = dataset(flip=True)
    plain, mirrored = collected(data)[0], collected(data, augment=True)[0]
    same = (plain == mirrored).all(axis=(1, 2, 3))
    flipped = (plain[:, :, ::-1] == mirrored).all(axis=(1, 2, 3))
    assert (same | flipped).all()
    assert 0.35 < flipped.mean() < 0.65


def test_shift_moves_each_way_and_repeats_the_edge() -> None:
    data = dataset(shift=2)
    plain, moved = collected(data)[0], collected(data, augment=True)[0]
    seen = set()
    for image, result in zip(plain, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        places = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(padded[down : down + 6, right : right + 5], result)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_brightness_stays_in_range() -> None:
    data = dataset(brightness=0.2)
    plain, lit = collected(data)[0], collected(data, augment=True)[0]
    assert lit.min() >= data.input.minimum
    assert lit.max() <= data.input.maximum
    inside = (lit > data.input.minimum) & (lit < data.input.maximum)
    change = np.where(inside, lit - plain, np.nan)
    assert np.nanmax(np.abs(change)) <= 0.2 * 255 + 1e-3
    spread = np.nanmax(change, axis=(1, 2, 3)) - np.nanmin(change, axis=(1, 2, 3))
    assert spread.max() < 1e-3  # one draw for each image
    assert np.nanstd(np.nanmean(change, axis=(1, 2, 3))) > 10


def test_a_reconstruction_learns_the_augmented_input() -> None:
    x, y = collected(dataset(problem="reconstruction", shift=1), seed=2, augment=True)
    np.testing.assert_array_equal(x, y)


CHANGES = {"flip": True, "shift": 2, "brightness": 0.2, "views": 3}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_view_is_the_same_whatever_the_order_the_seed_and_the_batch(streamed: bool) -> None:
    data = dataset(streamed=streamed, **CHANGES)

    def seen(view: int, size: int, seed: int | None) -> dict[int, np.ndarray]:
        """Each example as it was shown, by its row, which travels beside it."""
        rows = np.arange(data.counts["train"], dtype=np.float32)[:, None]
        batches = data.batches("train", size, shuffle_seed=seed, augment=True, view=view, beside=rows)
        images: dict[int, np.ndarray] = {}
        for x, _, taken in batches.as_numpy_iterator():
            images |= {int(row): image for image, [row] in zip(x, taken, strict=True)}
        return images

    whole = seen(1, 300, None)
    for other in (seen(1, 32, 4), seen(1, 7, 5)):
        assert len(other) == len(whole) == data.counts["train"]
        assert all(np.array_equal(image, other[row]) for row, image in whole.items())
    differing = [not np.array_equal(image, whole[row]) for row, image in seen(2, 32, 4).items()]
    assert np.mean(differing) > 0.95


def test_epochs_show_the_views_in_turn() -> None:
    assert [dataset(**CHANGES).view(epoch) for epoch in range(1, 8)] == [0, 1, 2, 0, 1, 2, 0]
    assert dataset(**{**CHANGES, "views": 0}).view(1) is None
    assert dataset(views=3).view(2) == 0, "without changes there is one view"


def test_what_goes_beside_stays_with_its_example() -> None:
    data = dataset()
    x, _ = data.arrays("train")
    sums = x.sum(axis=(1, 2, 3))[:, None].astype(np.float32)
    for x, y, beside in data.batches("train", 32, shuffle_seed=1, beside=sums).as_numpy_iterator():
        np.testing.assert_array_equal(beside[:, 0], x.sum(axis=(1, 2, 3)))
        assert len(y) == len(x)


def test_validation_is_never_augmented_unless_asked() -> None:
    data = dataset(brightness=0.5)
    x = np.concatenate([x for x, _ in data.batches("validation", 16).as_numpy_iterator()])
    np.testing.assert_array_equal(x, data.arrays("validation")[0])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 60), st.integers(1, 30), st.integers(0, 1000)
)
def test_the_pool_loses_and_repeats_nothing(sizes: list[int], pool: int, batch: int, seed: int) -> None:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for size in sizes:
            yield np.arange(start, start + size)[:, None] * 2, np.arange(start, start + size)
            start += size

    mixed = list(rebatched(shuffled(chunks(), pool, np.random.default_rng(seed)), batch))
    assert all(len(x) == batch for x, _ in mixed[:-1])
    assert 0 < len(mixed[-1][0]) <= batch
    rows = np.concatenate([rows for _, rows in mixed])
    np.testing.assert_array_equal(np.sort(rows), np.arange(sum(sizes)))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in mixed])[:, 0], rows * 2)
