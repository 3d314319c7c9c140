"""Labels of several places or kinds in an example: read as they come, or refused with what to write."""

import numpy as np
import pytest

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data
from tasks.data.labels import check_classes, numbered

RANDOM = np.random.default_rng(1)
MASKS = RANDOM.integers(0, 3, (40, 4, 5))
ONE_HOT = np.eye(3, dtype=np.float32)[MASKS]


def labels(y, **config):
    numbers, classes = numbered({"all": y}, DataConfig(**config), ())
    return numbers["all"], classes


@pytest.mark.parametrize(
    "y",
    [MASKS, MASKS.astype(np.uint8), MASKS[..., None], MASKS.astype(np.float32), ONE_HOT, ONE_HOT.astype(bool)],
    ids=["whole numbers", "bytes", "an axis of one", "floats", "one-hot", "booleans"],
)
def test_masks_are_classes_at_each_place(y):
    numbers, classes = labels(y)
    np.testing.assert_array_equal(numbers, MASKS)
    assert classes == ("0", "1", "2")


def test_their_numbers_and_names_may_begin_anywhere():
    """A mask of 1 to 3, of -1 and 1, of names."""
    numbers, classes = labels(MASKS + 1)
    np.testing.assert_array_equal(numbers, MASKS)
    assert classes == ("1", "2", "3")
    numbers, classes = labels(np.array(["sky", "sea", "land"], object)[MASKS])
    assert classes == ("land", "sea", "sky")
    np.testing.assert_array_equal(numbers, 2 - MASKS)
    numbers, classes = labels(MASKS * 50, classes=["100", "0", "50"])
    np.testing.assert_array_equal(numbers, np.array([1, 2, 0])[MASKS])
    with pytest.raises(DataError, match="also hold '50'"):
        labels(MASKS * 50, classes=["100", "0"])


def test_zeros_and_ones_side_by_side_may_be_two_things_and_are_asked_about():
    y = RANDOM.integers(0, 2, (40, 6))
    with pytest.raises(DataError, match=r"multilabel.*\(examples, 6, 1\)"):
        labels(y)
    np.testing.assert_array_equal(labels(y[..., None])[0], y)


def saved(folder, y, **config):
    np.savez(folder / "data.npz", x=RANDOM.normal(size=(len(y), 3)), y=y)
    return open_data(DataConfig(reader="npz", source=str(folder / "data.npz"), **config))


def test_several_labels_keep_their_names(tmp_path):
    y = RANDOM.integers(0, 2, (80, 3))
    data = saved(tmp_path, y, problem="multilabel", classes=["a", "b", "c"])
    assert data.head.output_shape == (3,)
    assert data.classes == ("a", "b", "c")
    assert sorted(map(tuple, np.concatenate([data.arrays(split)[1] for split in data.counts]))) == sorted(map(tuple, y))


@pytest.mark.parametrize(
    ("y", "config", "why"),
    [
        (RANDOM.integers(0, 3, (80, 3)), {}, "zeros and ones"),
        (RANDOM.integers(0, 2, 80), {}, "problem: classification"),
        (RANDOM.integers(0, 2, (80, 3)), {"classes": ["a", "b"]}, "there are 3 labels"),
        (RANDOM.integers(0, 2, (80, 2)) * [1, 0], {}, "'1' always or never"),
    ],
)
def test_what_are_no_labels_is_refused(tmp_path, y, config, why):
    with pytest.raises(DataError, match=why):
        saved(tmp_path, y, problem="multilabel", **config)


def test_a_class_that_is_rare_in_pixels_need_not_be_in_every_split(tmp_path):
    two = np.array([[0, 1], [1, 0]])
    three = {"train": np.stack([two, two + 1]), "validation": two[None], "test": two[None]}
    check_classes(three, ("0", "1", "2"))
    with pytest.raises(DataError, match="train has no '2'"):
        check_classes({**three, "train": two[None]}, ("0", "1", "2"))
    with pytest.raises(DataError, match="test has no '2'"):
        check_classes(
            {split: labels.reshape(-1) for split, labels in three.items()} | {"validation": np.arange(3)}, "012"
        )
    assert "4 x 5 labels in an example" in saved(tmp_path, MASKS).notes[0]


def test_numbers_of_several_steps_have_a_variance_a_channel(tmp_path):
    y = RANDOM.normal(size=(90, 5, 2)) * [100, 0.1]
    data = saved(tmp_path, y, problem="regression")
    assert data.head.output_shape == (5, 2)
    assert data.head.variance == pytest.approx(data.targets["train"].var(axis=0).mean(axis=0), rel=1e-5)
