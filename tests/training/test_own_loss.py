"""A loss of the user's own: what it asks for is learned, and what it cannot give is said."""

import numpy as np
import pytest
from small_training import trained

from tasks.contract.errors import DataError
from tasks.data import DataConfig, open_data
from tasks.training.loop import FitConfig

LOSSES = """
import tensorflow as tf

def ninth_tenth(y, answers):
    off = y - answers
    return tf.maximum(0.9 * off, -0.1 * off)

def scalar(y, answers):
    return tf.reduce_mean(y - answers)

def broken(y, answers):
    return y - answers[:, 7]

def whole(y, answers):
    return tf.cast(y, tf.int32)
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (1200, 2)).astype(np.float32)
    y = 3 * x[:, 0] + draw.exponential(1, 1200)
    np.savez(tmp_path / "d.npz", x=x, y=y.astype(np.float32))
    (tmp_path / "their_losses.py").write_text(LOSSES)
    monkeypatch.chdir(tmp_path)
    return lambda loss, **more: open_data(
        DataConfig(reader="npz", source=str(tmp_path / "d.npz"), problem="regression", loss=loss, **more)
    )


@pytest.mark.parametrize("loss", ["", "their_losses:ninth_tenth"])
def test_it_takes_the_place_of_the_squared_error(data, loss):
    opened = data(loss)
    model, _ = trained(opened, FitConfig(epochs=15, learning_rate=0.01))
    x, y = opened.arrays("test")
    below = float((y < model.predict(x, verbose=0)).mean())
    assert below == pytest.approx(0.9 if loss else 0.63, abs=0.07)  # of an exponential 63% lie below its mean


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        ("scalar", r"gives float32 \(\) for 4 examples: give what each example costs, floats \(examples, …\)"),
        ("broken", "the function raised"),
        ("whole", "gives int32"),
    ],
)
def test_what_it_cannot_give_is_said(data, loss, why):
    with pytest.raises(DataError, match=why):
        trained(data(f"their_losses:{loss}"))


def test_a_function_that_is_not_there_is_said_before_anything_runs(data):
    with pytest.raises(DataError, match=r"data\.loss: 'their_losses:none': cannot be imported"):
        data("their_losses:none")


def test_another_function_is_another_training_and_the_same_data(data, tmp_path):
    before, plain = data("their_losses:ninth_tenth"), data("")
    assert before.digest == plain.digest
    treated = before.config.treatment
    assert treated != plain.config.treatment
    (tmp_path / "their_losses.py").write_text(LOSSES + "\n# changed\n")
    assert before.config.treatment != treated


@pytest.mark.parametrize("more", [{"mixup": 0.2}, {"mistakes": {"smoothing": 0.1}}])
def test_it_decides_alone(more):
    with pytest.raises(ValueError, match="decides what mistakes cost"):
        DataConfig(loss="their_losses:ninth_tenth", **more)
