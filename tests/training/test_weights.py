"""What examples count: as Keras counts sample weights, through a whole training."""

import numpy as np
import pytest
from small_training import trained

from tasks.data import DataConfig, open_data
from tasks.training.loop import FitConfig
from tasks.training.losses import cross_entropy as of_classes
from tasks.training.losses import label_cross_entropy, squared_error
from tasks.training.mistakes import Costs
from tasks.training.mistakes import of_classes as costly

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.uniform(0, 3, 6).astype(np.float32)


def keras_says(loss, y, p):
    return float(loss(y, p, sample_weight=WEIGHTS))


def test_losses_are_weighed_as_keras_weighs_them():
    import tensorflow as tf

    losses = tf.keras.losses
    p = RANDOM.dirichlet(np.ones(4), 6).astype(np.float32)
    y = RANDOM.integers(0, 4, 6)
    expected = keras_says(losses.SparseCategoricalCrossentropy(), y, p)
    assert float(of_classes(y, p, 1.0, WEIGHTS)) == pytest.approx(expected, rel=1e-5)
    assert float(costly(y, p, Costs((1.0,) * 4, (), 0, 0), WEIGHTS)) == pytest.approx(expected, rel=1e-5)
    there = RANDOM.integers(0, 2, (6, 4)).astype(np.float32)
    expected = keras_says(losses.BinaryCrossentropy(), there, p)
    assert float(label_cross_entropy(there, p, 1.0, WEIGHTS)) == pytest.approx(expected, rel=1e-4)
    expected = keras_says(losses.MeanSquaredError(), there, p)
    assert float(squared_error(there, p, 2.0, WEIGHTS)) == pytest.approx(expected / 2, rel=1e-5)


@pytest.mark.parametrize("weigh", [False, True])
def test_what_counts_nothing_is_not_learned(tmp_path, weigh):
    """Two thirds of the labels are wrong, and weigh nothing where there are weights."""
    x = RANDOM.normal(size=(900, 3)).astype(np.float32)
    right = (x[:, 0] > 0).astype(int)
    wrong = np.arange(900) % 3 > 0
    np.savez(tmp_path / "d.npz", x=x, y=np.where(wrong, 1 - right, right), w=(~wrong).astype(np.float32))
    config = DataConfig(reader="npz", source=str(tmp_path / "d.npz"), weight="w" if weigh else "")
    model, _ = trained(open_data(config), FitConfig(epochs=12, learning_rate=0.01))
    agrees = (model.predict(x, verbose=0).argmax(axis=1) == right).mean()
    assert agrees > 0.9 if weigh else agrees < 0.1
