"""Kinds of layers and operators that a converter is easily wrong about, in ONNX, compared with Keras by channel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contract.errors import ConversionError
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.audit import multiply_accumulates
from tasks.quantization.fake_quantization import fake_quantized

Build = Callable[[Any, Any], Any]

IMAGE = (8, 8, 4)
SEQUENCE = (5, 4)
SPACE = (5, 5, 5, 2)
VECTOR = (6,)
OPEN = (None, None, 4)


def _dense(layers: Any, x: Any) -> Any:
    return layers.Dense(3, name="dense")(x)


def _convolved(layers: Any, x: Any) -> Any:
    return layers.Conv2D(4, 3, padding="same", name="first")(x)


def _recurrent(make: Callable[[Any], Any]) -> Build:
    return lambda la, x: _dense(la, make(la)(x))


def _masked(make: Callable[[Any], Any]) -> Build:
    return lambda la, x: _dense(la, make(la)(la.Masking(name="mask")(x)))


def _after(make: Callable[[Any], Any]) -> Build:
    """Between two convolutions, so that integers stand around it."""
    return lambda la, x: la.Conv2D(3, 1, name="last")(make(la)(_convolved(la, x)))


def _function(function: Callable[[Any], Any]) -> Build:
    return _after(lambda la: la.Lambda(function, name="function"))


def _whole(function: Callable[[Any, Any], Any]) -> Build:
    """A function of whole numbers below and above zero, from TensorFlow and a tensor."""

    def computed(x: Any) -> Any:
        import tensorflow as tf

        return tf.cast(function(tf, tf.cast(tf.round(x * 3), tf.int32)), tf.float32)

    return lambda la, x: la.Lambda(computed, name="function")(x)


def _tf(function: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A function that is handed TensorFlow, which is imported only when it is called."""

    def called(x: Any) -> Any:
        import tensorflow as tf

        return function(tf, x)

    return called


def _parts_of_a_spectrum(tf: Any, x: Any) -> Any:
    """Of more places than there are, which zeros stand for. The first and the last number have no imaginary part."""
    spectrum = tf.signal.rfft(x, [10])
    return tf.concat([tf.math.real(spectrum), tf.math.imag(spectrum)[:, 1:-1]], -1)


LOOPS: dict[str, tuple[tuple[int | None, ...], Build]] = {
    "simple": (SEQUENCE, _recurrent(lambda la: la.SimpleRNN(4, name="r"))),
    "simple, backwards": (SEQUENCE, _recurrent(lambda la: la.SimpleRNN(4, activation="relu", go_backwards=True))),
    "any length": ((None, 4), _recurrent(lambda la: la.SimpleRNN(4, return_sequences=True, name="r"))),
    "gru, reset before": (SEQUENCE, _recurrent(lambda la: la.GRU(4, reset_after=False, name="r"))),
    "gru, hard sigmoid": (SEQUENCE, _recurrent(lambda la: la.GRU(4, recurrent_activation="hard_sigmoid", name="r"))),
    "lstm, elu": (SEQUENCE, _recurrent(lambda la: la.LSTM(4, activation="elu", name="r"))),
    "lstm, masked": (SEQUENCE, _masked(lambda la: la.LSTM(4, name="r"))),
    "both ways, masked": (SEQUENCE, _masked(lambda la: la.Bidirectional(la.GRU(3, return_sequences=True), name="r"))),
    "cells": (SEQUENCE, _recurrent(lambda la: la.RNN([la.LSTMCell(4), la.GRUCell(3)], name="r"))),
    "convolutional": ((3, 5, 5, 2), lambda la, x: la.Conv2D(3, 1, name="last")(la.ConvLSTM2D(3, 3, name="r")(x))),
    "branch": (IMAGE, _after(lambda la: la.CenterCrop(5, 4, name="crop"))),
    "while": (IMAGE, _function(_tf(lambda tf, x: tf.map_fn(lambda e: e * 2 + 1, x)))),
}
OTHERS: dict[str, tuple[tuple[int | None, ...], Build]] = {
    "groups": (IMAGE, _after(lambda la: la.Conv2D(6, 3, groups=2, name="c"))),
    "groups, strided": (IMAGE, lambda la, x: la.Conv2D(8, 3, 2, groups=4, activation="relu", name="c")(x)),
    "groups on a sequence": (SEQUENCE, lambda la, x: la.Conv1D(6, 3, groups=2, padding="causal", name="c")(x)),
    "gelu": (IMAGE, _after(lambda la: la.Activation("gelu", name="gelu"))),
    "group norm": (IMAGE, _after(lambda la: la.GroupNormalization(2, name="norm"))),
    "unit norm": (IMAGE, _after(lambda la: la.UnitNormalization(axis=(1, 2), name="norm"))),
    "stride beyond kernel": (IMAGE, _after(lambda la: la.Conv2DTranspose(5, 2, 3, name="t"))),
    "stride far beyond kernel": (IMAGE, _after(lambda la: la.Conv2DTranspose(5, 1, 3, padding="same", name="t"))),
    "stride beyond kernel, open": (OPEN, _after(lambda la: la.Conv2DTranspose(5, 2, 3, name="t"))),
    "area": (IMAGE, _after(lambda la: la.Resizing(3, 9, interpolation="area", name="r"))),
    "bicubic": (IMAGE, _after(lambda la: la.Resizing(5, 13, interpolation="bicubic", name="r"))),
    "lanczos": (IMAGE, _after(lambda la: la.UpSampling2D((2, 3), interpolation="lanczos3", name="r"))),
    "smoothed": (IMAGE, _function(_tf(lambda tf, x: tf.image.resize(x, (3, 5), antialias=True)))),
    "not taken": (IMAGE, _function(_tf(lambda tf, x: tf.where(x > 0.1, tf.math.log(x), 0.0)))),
    "saturation": (IMAGE, _function(_tf(lambda tf, x: tf.image.adjust_saturation(tf.nn.sigmoid(x[..., :3]), 0.5)))),
    "log1p": (IMAGE, _function(_tf(lambda tf, x: 1e4 * tf.math.log1p(tf.abs(x) * 1e-4)))),
    "expm1": (IMAGE, _function(_tf(lambda tf, x: 1e4 * tf.math.expm1(x * 1e-4)))),
    "xlogy": (IMAGE, _function(_tf(lambda tf, x: tf.math.xlogy(tf.nn.relu(x), tf.nn.relu(x))))),
    "no nan": (IMAGE, _function(_tf(lambda tf, x: tf.math.multiply_no_nan(1 / tf.nn.relu(x), tf.nn.relu(x))))),
    "gather": (IMAGE, _function(_tf(lambda tf, x: tf.gather(x, tf.argmax(x, -1)[..., None], axis=-1, batch_dims=3)))),
}
FLOAT_ONLY: dict[str, tuple[tuple[int | None, ...], Build]] = {
    "groups in space": (SPACE, lambda la, x: la.Conv3D(4, 3, groups=2, name="c")(x)),
    "discretization": (VECTOR, lambda la, x: la.Discretization([-1.0, 0.0, 0.5], name="n")(x)),
    "division": (IMAGE, _whole(lambda tf, x: x // 2)),
    "division by less than zero": (IMAGE, _whole(lambda tf, x: x // -3)),
    "modulo": (IMAGE, _whole(lambda tf, x: x % -4)),
    "modulo of fractions": (IMAGE, lambda la, x: la.Lambda(lambda t: t % 0.7, name="function")(x)),
    "modulo towards zero": (IMAGE, _whole(lambda tf, x: tf.truncatemod(x, 3))),
    "spectrum": (VECTOR, lambda la, x: la.Lambda(_tf(lambda tf, x: tf.abs(tf.signal.rfft(x))), name="function")(x)),
    "parts of a spectrum": (VECTOR, lambda la, x: la.Lambda(_tf(_parts_of_a_spectrum), name="function")(x)),
    "spectra of a part": (SEQUENCE, lambda la, x: la.Lambda(_tf(lambda tf, x: tf.abs(tf.signal.rfft(x, [3]))))(x)),
    "spectra of images": (
        SEQUENCE,
        lambda la, x: la.Lambda(_tf(lambda tf, x: tf.abs(tf.signal.rfft2d(x))), name="function")(x),
    ),
    "one hot": (IMAGE, _whole(lambda tf, x: tf.one_hot(x, 3))),
}


def build(shape: tuple[int | None, ...], layers: Build) -> tuple[Any, np.ndarray]:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(shape, name="input")
    model = tf.keras.Model(inputs, layers(tf.keras.layers, inputs), name="kind")
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(0.1, 0.5, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    x = draw.normal(0, 1, (64, *(size or 7 for size in shape))).astype(np.float32)
    if len(shape) == 2:  # ends of sequences that a mask leaves out, and places within
        for number, row in enumerate(x):
            row[1 + number % shape[0] if shape[0] else 7 :] = 0
        x[::5, 1] = 0
    return model, x


def off(actual: np.ndarray, expected: np.ndarray, whole: np.ndarray) -> float:
    """By how much answers are off at most, in parts of the range that their channel has in all of them."""
    assert actual.shape == expected.shape
    axes = tuple(range(whole.ndim - 1))
    away = np.abs(actual.astype(np.float64) - expected)
    assert np.isfinite(away).all()
    return float((away.max(axis=axes) / np.maximum(np.ptp(whole, axis=axes), 1e-6)).max())


@pytest.mark.parametrize("name", [*LOOPS, *OTHERS, *FLOAT_ONLY])
def test_floats_answer_as_keras_does_for_every_batch(name: str, tmp_path: Path) -> None:
    model, x = build(*(LOOPS | OTHERS | FLOAT_ONLY)[name])
    onnx.write(model, tmp_path, "float32", classes=())
    run, expected = onnx.load(tmp_path), model(x).numpy()
    assert np.ptp(expected) > 0.1
    for count in (1, 2, 64):
        assert off(run(x[:count]), expected[:count], expected) < 1e-4, count


@pytest.mark.parametrize("name", [*LOOPS, *OTHERS])
def test_integers_answer_as_the_fake_quantized_model_does(name: str, tmp_path: Path) -> None:
    model, x = build(*(LOOPS | OTHERS)[name])
    quantized = fake_quantized(model, x)
    onnx.write(quantized, tmp_path, "int8", classes=())
    run, expected = onnx.load(tmp_path), quantized(x).numpy()
    step = np.ptp(expected) / 255
    for count in (1, 2, 64):
        steps = np.abs(run(x[:count]) - expected[:count]) / step
        assert steps.max() < 3, count  # between two steps either is right, and the next kernel makes more of it
        assert np.mean(steps > 0.05) < 0.002, count
    audit = onnx.audit(tmp_path, x[:1])
    assert audit.integer_macs > 0
    assert audit.everywhere, audit.everywhere_in_words
    if "groups" in name:
        assert audit.integer_share == 1


@pytest.mark.parametrize("precision", ["float16", "dynamic"])
@pytest.mark.parametrize("name", ["gru, hard sigmoid", "branch", "groups"])
def test_smaller_numbers_with_bodies_and_groups(name: str, precision: Any, tmp_path: Path) -> None:
    model, x = build(*(LOOPS | OTHERS)[name])
    onnx.write(model, tmp_path, precision, classes=())
    expected = model(x).numpy()
    assert off(onnx.load(tmp_path)(x), expected, expected) < {"float16": 0.01, "dynamic": 0.06}[precision]


# Where a mask is made twice, tf2onnx keeps either, and with it the name of the one layer or the other.
SETTLED = [name for name in LOOPS if "masked" not in name]


@pytest.mark.parametrize("name", SETTLED)
def test_the_same_model_gives_the_same_file(name: str, tmp_path: Path) -> None:
    """tf2onnx counts through the life of a process, and walks through sets."""
    import tensorflow as tf

    files = set()
    for number in range(3):
        tf.keras.backend.clear_session()
        model, _ = build(*LOOPS[name])
        (tmp_path / str(number)).mkdir()
        onnx.write(model, tmp_path / str(number), "float32", classes=())
        files.add((tmp_path / str(number) / onnx.FILE).read_bytes())
    assert len(files) == 1


def test_what_turns_in_a_loop_is_counted_each_time(tmp_path: Path) -> None:
    model, x = build(*LOOPS["simple"])
    onnx.write(model, tmp_path, "float32", classes=())
    steps, features = SEQUENCE
    work = multiply_accumulates(tmp_path / onnx.FILE, x[:1])
    assert sum(work.values()) == steps * (features * 4 + 4 * 4) + 4 * 3
    assert {name.split("/")[0] for name in work} == {"r", "dense"}


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        (SEQUENCE, lambda la, x: la.Lambda(_tf(lambda tf, x: tf.reshape(x, (1, 20))), name="odd")(x), "'odd'.*at once"),
        (OPEN, lambda la, x: la.Resizing(4, 5, interpolation="area", name="odd")(x), "'odd' resizes.*height and width"),
        (OPEN, lambda la, x: la.Resizing(4, 5, interpolation="gaussian", name="odd")(x), "'odd' resizes.*bilinear"),
        (VECTOR, lambda la, x: la.Lambda(_tf(lambda tf, x: tf.math.lgamma(x)), name="odd")(x), "'odd' needs.*Lgamma"),
        (
            VECTOR,
            lambda la, x: la.Lambda(_tf(lambda tf, x: tf.math.angle(tf.signal.rfft(x))), name="odd")(x),
            "'odd' needs a Fourier transform whose complex numbers Angle takes.*real and imaginary parts",
        ),
    ],
)
def test_what_is_refused_names_the_layer(shape: Any, layers: Build, message: str, tmp_path: Path) -> None:
    model, _ = build(shape, layers)
    with pytest.raises(ConversionError, match=message):
        onnx.write(model, tmp_path, "float32", classes=())
    assert not list(tmp_path.iterdir())
