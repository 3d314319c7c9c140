"""Models as people bring them from Keras 3, one for each kind of layer, with data that they answer differently.

Run as a program it makes all of them in a folder: `NAME.keras`, and `NAME.npz` with inputs, labels and Keras' answers.
The labels are what the model itself says, so that whatever answers otherwise is seen as a drop.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = 160
CUSTOM = '''
import keras


@keras.saving.register_keras_serializable("rows")
class Doubling(keras.layers.Layer):
    """Somebody's own layer, with a weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="scale")

    def call(self, x):
        return 2 * x + self.scale * keras.ops.square(x)
'''


def _pictures(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda draw: draw.normal(size=(EXAMPLES, *shape)).astype(np.float32)


def _ids(*shape: int, most: int = 30) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda draw: draw.integers(0, most, (EXAMPLES, *shape)).astype(np.int32)


def _sentences(draw: np.random.Generator) -> np.ndarray:
    """Ids with zeros behind them, as Keras pads them."""
    ids = draw.integers(1, 30, (EXAMPLES, 12))
    return np.where(np.arange(12) < draw.integers(3, 13, (EXAMPLES, 1)), ids, 0).astype(np.int32)


def _sliced(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Conv2D(8, 3, activation="relu")(x[..., ::-1])
    x = layers.Reshape((36, 8))(x) + np.linspace(-1, 1, 36 * 8, dtype=np.float32).reshape(1, 36, 8)
    x = keras.ops.stack([x, keras.ops.maximum(x, 0.5)], axis=-1)
    return layers.Flatten()(keras.ops.mean(x, axis=-1)[:, ::5])


def _own(keras: Any, x: Any) -> Any:
    own = importlib.import_module("rows_own_layers")
    return own.Doubling(name="own")(keras.layers.Dense(8, activation="relu")(x))


def _transformer(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Dense(16)(layers.Reshape((9, 48))(x))
    for _ in range(2):
        x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(*[layers.LayerNormalization()(x)] * 2)])
        x = layers.Add()([x, layers.Dense(16)(layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x)))])
    return layers.GlobalAveragePooling1D()(x)


def _squeezed(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Activation("swish")(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    gate = layers.Dense(16, activation="sigmoid")(
        layers.Dense(4, activation="swish")(layers.GlobalAveragePooling2D()(x))
    )
    x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    return layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1)(x))


def _dilated(keras: Any, x: Any) -> Any:
    for rate in (1, 2, 4):
        y = keras.layers.Conv1D(8, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
        x = keras.layers.Add()([y, keras.layers.Conv1D(8, 1)(x)])
    return keras.layers.GlobalAveragePooling1D()(x)


def _each_step(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"))(x)
    return layers.LSTM(12)(layers.TimeDistributed(layers.GlobalAveragePooling2D())(x))


def _listening(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.MelSpectrogram(fft_length=128, sequence_stride=64, num_mel_bins=16, sampling_rate=8000)(x)
    return layers.Flatten()(layers.Conv1D(8, 3, activation="relu")(layers.Permute((2, 1))(x)))


def _volume(keras: Any, x: Any) -> Any:
    x = keras.layers.MaxPooling3D(2)(keras.layers.Conv3D(6, 3, padding="same", activation="relu")(x))
    return keras.layers.Flatten()(x)


def _averaged(keras: Any, x: Any) -> Any:
    """Probabilities already: nothing is to be put behind them."""
    each = [keras.layers.Dense(3, activation="softmax", name=name)(x) for name in ("left", "right")]
    return keras.layers.Average()(each)


def _bucketed(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Discretization(bin_boundaries=[-1.0, -0.3, 0.3, 1.0], output_mode="int")(x)
    return layers.Flatten()(layers.Embedding(5, 4)(x))


def _looked_up(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.IntegerLookup(vocabulary=[*range(3, 27)], output_mode="int")(x)
    return layers.CategoryEncoding(num_tokens=25, output_mode="multi_hot")(x)


# name: what an example is, layers up to the last, and what the last is (a model of its own if it is None)
ROWS: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], Callable[[Any, Any], Any], str | None]] = {
    "one-sigmoid": (_pictures(6), lambda k, x: k.layers.Dense(8, activation="relu")(x), "sigmoid"),
    "five-sigmoids": (_pictures(6), lambda k, x: k.layers.Dense(8, activation="relu")(x), "sigmoids"),
    "averaged-softmaxes": (_pictures(6), _averaged, None),
    "logits": (_pictures(6), lambda k, x: k.layers.Dense(8, activation="relu")(x), "linear"),
    "slices-and-ops": (_pictures(8, 8, 3), _sliced, "softmax"),
    "own-layer": (_pictures(6), _own, "softmax"),
    "transformer": (_pictures(12, 12, 3), _transformer, "softmax"),
    "grouped": (
        _pictures(8, 8, 4),
        lambda k, x: k.layers.Flatten()(k.layers.Conv2D(8, 3, groups=4, activation="gelu")(x)),
        "softmax",
    ),
    "bidirectional-masked": (
        _sentences,
        lambda k, x: k.layers.Bidirectional(k.layers.LSTM(8))(k.layers.Embedding(30, 8, mask_zero=True)(x)),
        "softmax",
    ),
    "embedding": (
        _ids(12),
        lambda k, x: k.layers.GlobalAveragePooling1D()(k.layers.Embedding(30, 16)(x)),
        "softmax",
    ),
    "lstm": (_pictures(10, 4), lambda k, x: k.layers.LSTM(16)(x), "softmax"),
    "gru": (_pictures(10, 4), lambda k, x: k.layers.GRU(16)(x), "softmax"),
    "dilated": (_pictures(20, 3), _dilated, "softmax"),
    "squeeze-and-excite": (_pictures(8, 8, 3), _squeezed, "softmax"),
    "each-step": (_pictures(4, 8, 8, 2), _each_step, "softmax"),
    "transposed": (
        _pictures(6, 6, 3),
        lambda k, x: k.layers.Flatten()(k.layers.Conv2DTranspose(4, 3, strides=2, activation="relu")(x)),
        "softmax",
    ),
    "spectrogram": (_pictures(1024), _listening, "softmax"),
    "recurrent-pictures": (
        _pictures(4, 6, 6, 2),
        lambda k, x: k.layers.Flatten()(k.layers.ConvLSTM2D(4, 3)(x)),
        "softmax",
    ),
    "volume": (_pictures(6, 6, 6, 2), _volume, "softmax"),
    "buckets": (_pictures(4), _bucketed, "softmax"),
    "looked-up": (_ids(5), _looked_up, "softmax"),
}


def _spread(keras: Any, last: Any, features: Any, inputs: Any, x: np.ndarray) -> None:
    """Give the last layer weights with which its answers differ between examples and its classes are all met."""
    seen = keras.Model(inputs, features).predict(x, verbose=0)
    kernel = last.get_weights()[0]
    raw = seen @ kernel
    scale = 3 / raw.std(axis=0)
    last.set_weights([kernel * scale, -(raw * scale).mean(axis=0)])


def made(name: str) -> tuple[Any, np.ndarray]:
    """A row's model in Keras 3, and its examples."""
    import keras

    keras.utils.set_random_seed(0)
    examples, layers, end = ROWS[name]
    x = examples(np.random.default_rng(0))
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name, name="given")
    features = layers(keras, inputs)
    if end is None:
        return keras.Model(inputs, features), x
    units = {"sigmoid": 1, "sigmoids": 5}.get(end, 3)
    last = keras.layers.Dense(units, activation=end.removesuffix("s"), name="last")
    model = keras.Model(inputs, last(features))
    _spread(keras, last, features, inputs, x)
    return model, x


def labels(answers: np.ndarray, end: str | None) -> np.ndarray:
    """What the model itself says."""
    if end == "sigmoids":
        return (answers > 0.5).astype(np.int64)
    return (answers[:, 0] > 0.5).astype(np.int64) if end == "sigmoid" else answers.argmax(axis=1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "rows_own_layers.py").write_text(CUSTOM)
    sys.path.insert(0, str(folder))
    for name in sys.argv[2:]:
        model, x = made(name)
        answers = model.predict(x, verbose=0)
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", x=x, y=labels(answers, ROWS[name][2]), answers=answers)
