"""Mixup and CutMix: what is mixed of the inputs is mixed of the labels, and a seed draws the same again."""

import numpy as np
import pytest

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data

RANDOM = np.random.default_rng(2)


def opened(folder, x, y, **config):
    np.savez(folder / "data.npz", x=x, y=y)
    return open_data(DataConfig(reader="npz", source=str(folder / "data.npz"), scaling="none", **config))


def images(folder, **config):
    """Each image is all its class's number, so that the labels can be read from it; 60 examples for each of three."""
    y = np.arange(180) % 3
    x = np.broadcast_to((y[:, None, None, None] + np.arange(180)[:, None, None, None] * 1e-4), (180, 8, 8, 1))
    return opened(folder, np.array(x, np.float32), y, **config)


def batches(data, seed=5):
    return [(x.numpy(), y.numpy()) for x, y in data.batches("train", 32, shuffle_seed=seed, augment=True)]


@pytest.mark.parametrize("config", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_labels_are_mixed_as_the_inputs_are(tmp_path, config):
    data = images(tmp_path, **config)
    seen = batches(data)
    shares = np.concatenate([y for _, y in seen])
    assert shares.shape == (data.counts["train"], 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert 0.05 < np.mean((shares > 0.1).sum(axis=1) == 2) < 0.9, "some are of two classes"
    for x, y in seen:
        np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), y @ [0, 1, 2], atol=0.02)
        if "mixup" not in config:
            assert (np.abs(x - x.round()) < 0.02).all(), "boxes, and nothing between"
    for (x, y), (again, labels) in zip(seen, batches(data), strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)
    assert any((one[0] != other[0]).any() for one, other in zip(seen, batches(data, seed=6), strict=True))


def test_what_is_measured_is_not_mixed(tmp_path):
    data = images(tmp_path, mixup=0.4)
    for split in ("validation", "test"):
        assert all(y.dtype.is_integer for _, y in data.batches(split, 32))
    assert data.view(1) is None, "a teacher is asked anew, as nothing is shown twice"


def test_several_labels_are_mixed_too(tmp_path):
    y = RANDOM.integers(0, 2, (80, 4))
    data = opened(tmp_path, y.astype(np.float32) + RANDOM.normal(0, 1e-3, y.shape), y, mixup=1.0, problem="multilabel")
    for x, shares in batches(data):
        np.testing.assert_allclose(x, shares, atol=0.01)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"cutmix": 1.0}, "no images"),
        ({"mixup": 0.2, "problem": "regression"}, "classes or labels"),
        ({"mixup": 0.2, "views": 3}, r"leave out data\.views"),
    ],
)
def test_what_cannot_be_mixed_is_refused(tmp_path, config, why):
    with pytest.raises(DataError, match=why):
        opened(tmp_path, RANDOM.normal(size=(60, 5)), np.arange(60) % 2, **config)


def test_pixels_with_classes_of_their_own_are_not_mixed(tmp_path):
    with pytest.raises(DataError, match="classes or labels of whole examples"):
        opened(tmp_path, RANDOM.normal(size=(60, 8, 8, 1)), RANDOM.integers(0, 2, (60, 8, 8, 1)), cutmix=1.0)
