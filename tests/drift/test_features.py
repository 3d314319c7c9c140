"""What each example is like, in closed form."""

import numpy as np
import pytest

from tasks.contract.named import packed
from tasks.drift.features import features_of


def test_a_table_s_columns_are_looked_at_one_by_one():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    features = features_of(x)
    assert list(features) == ["value_0", "value_1", "value_2"]
    np.testing.assert_array_equal(features["value_1"], [1, 4, 7, 10])


def test_a_table_s_columns_go_by_their_names():
    features = features_of(np.arange(12).reshape(4, 3), ("width", "height", "age"))
    assert list(features) == ["width", "height", "age"]
    np.testing.assert_array_equal(features["age"], [2, 5, 8, 11])


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (100, 4), (640,), (1, 1, 2)])
def test_each_example_stands_for_itself(shape):
    x = np.random.default_rng(0).random((5, *shape), np.float32)
    whole = features_of(x)
    for row in range(5):
        for name, value in features_of(x[row : row + 1]).items():
            assert whole[name][row] == pytest.approx(value[0])
    assert all(values.shape == (5,) for values in whole.values())


def test_images_are_told_by_light_contrast_extremes_and_neighbours():
    ramp = np.tile(np.arange(4, dtype=np.uint8)[:, None], (1, 4))  # grows by one a row
    x = np.stack([ramp, np.full((4, 4), 9)]).astype(np.uint8)[..., None]
    features = features_of(x)
    np.testing.assert_allclose(features["mean"], [1.5, 9])
    np.testing.assert_allclose(features["std"], [np.sqrt(1.25), 0])
    np.testing.assert_allclose(features["minimum"], [0, 9])
    np.testing.assert_allclose(features["maximum"], [3, 9])
    np.testing.assert_allclose(features["roughness"], [0.5, 0])  # one along the rows, nothing along the columns
    colour = features_of(np.repeat(x, 3, axis=-1) * np.array([1, 2, 0], np.uint8))
    np.testing.assert_allclose(colour["channel_1"], [3, 18])


def test_noise_is_rough_and_blur_is_not():
    random = np.random.default_rng(1)
    x = random.random((20, 16, 16, 1))
    blurred = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2) + np.roll(x, (1, 1), (1, 2))) / 4
    plain, soft = features_of(x)["roughness"], features_of(blurred)["roughness"]
    assert (soft < 0.7 * plain).all()


def test_each_of_several_inputs_has_figures_of_its_own():
    images, table = np.random.default_rng(0).random((5, 4, 4, 3)), np.arange(10.0).reshape(5, 2)
    both = features_of(packed({"image": images, "table": table}))
    alone = {"image": features_of(images), "table": features_of(table)}
    assert list(both) == [f"{name}/{figure}" for name, figures in alone.items() for figure in figures]
    for name, figures in alone.items():
        for figure, values in figures.items():
            np.testing.assert_array_equal(both[f"{name}/{figure}"], values)
