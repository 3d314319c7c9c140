"""Ranges in LiteRT's int8 files: those that the model was quantized with, whatever operators ask of their steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ties import clear

from tasks.contract.errors import ConversionError
from tasks.formats.tflite import files as tflite
from tasks.formats.tflite.graph import TFLiteGraph, TFLiteSteps
from tasks.formats.tflite.lowering import check
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import ends

Build = Callable[[Any, Any], Any]

IMAGE = (8, 8, 3)
SEQUENCE = (16, 4)


def conv(layers: Any, x: Any, name: str, scale: float = 0.5, activation: str | None = None) -> Any:
    """A convolution of four channels whose answers are about that large."""
    import tensorflow as tf

    kernel = tf.keras.initializers.RandomNormal(0, scale / np.sqrt(9 * x.shape[-1]), seed=len(name))
    bias = tf.keras.initializers.RandomNormal(0, scale, seed=7)
    make = layers.Conv2D if len(x.shape) == 4 else layers.Conv1D
    kind = make(4, 3, padding="same", kernel_initializer=kernel, bias_initializer=bias, name=name)
    x = kind(x)
    return layers.Activation(activation, name=f"{name}_activation")(x) if activation else x


def seen(layers: Any, x: Any) -> Any:
    """A layer with an integer kernel whose output is its input, so that steps can be counted behind it."""
    return layers.Dense(x.shape[-1], kernel_initializer="identity", name="seen")(x)


def of_two(make: Callable[[Any], Any], first: float, second: float) -> Build:
    """A layer on two tensors of such sizes."""
    return lambda la, x: seen(la, make(la)([conv(la, x, "a", first), conv(la, x, "b", second)]))


def of_one(make: Callable[[Any], Any], activation: str | None = None) -> Build:
    return lambda la, x: seen(la, make(la)(conv(la, x, "a", activation=activation)))


def function(run: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A layer that computes with TensorFlow's operators."""

    def make(layers: Any) -> Any:
        import tensorflow as tf

        return layers.Lambda(lambda inputs: run(tf, inputs))

    return make


def pooled_and_reused(la: Any, x: Any) -> Any:
    x = conv(la, x, "a", activation="relu")
    up = la.UpSampling2D(2, interpolation="bilinear", name="up")(la.AveragePooling2D(2, name="mean")(x))
    return la.Add(name="sum")([la.Conv2D(4, 1, name="b")(up), x])


def joined_and_reused(la: Any, x: Any) -> Any:
    a, b = conv(la, x, "a", 0.1), conv(la, x, "b", 3)
    both = la.Concatenate(name="both")([a, b])
    return la.Concatenate(name="all")([both, la.Add(name="sum")([a, la.ReLU(name="relu")(b)])])


# name: shape of an example, layers, and how many steps off at most: more than one where LiteRT rounds once more
KINDS: dict[str, tuple[tuple[int, ...], Build, float]] = {
    "average over a sequence": (SEQUENCE, of_one(lambda la: la.AveragePooling1D(4), "relu"), 0.05),
    "average over a sequence, signed": (SEQUENCE, of_one(lambda la: la.AveragePooling1D(8)), 0.05),
    "average": (IMAGE, of_one(lambda la: la.AveragePooling2D(4), "relu"), 0.05),
    "average, overlapping": (IMAGE, of_one(lambda la: la.AveragePooling2D(3, 1)), 0.05),
    "average, padded to fit": (IMAGE, of_one(lambda la: la.AveragePooling2D(2, padding="same")), 0.05),
    "average, padded": (IMAGE, of_one(lambda la: la.AveragePooling2D(3, 2, padding="same")), 2.05),
    "average, padded and much finer": (IMAGE, of_one(lambda la: la.AveragePooling2D(7, 1, padding="same")), 1.05),
    "averages and the largest": (
        IMAGE,
        lambda la, x: la.Concatenate()(
            [
                la.AveragePooling2D(4)(conv(la, x, "a", activation="relu")),
                la.MaxPooling2D(4)(conv(la, x, "b", activation="relu")),
            ]
        ),
        1.05,
    ),
    "mean": (IMAGE, of_one(lambda la: la.GlobalAveragePooling2D()), 0.05),
    "concatenate": (IMAGE, of_two(lambda la: la.Concatenate(), 5, 0.1), 1.05),
    "maximum": (IMAGE, of_two(lambda la: la.Maximum(), 5, 0.1), 1.05),
    "minimum": (IMAGE, of_two(lambda la: la.Minimum(), 0.1, 5), 1.05),
    "average of two": (IMAGE, of_two(lambda la: la.Average(), 5, 0.1), 0.05),
    "select": (IMAGE, of_two(function(lambda tf, x: tf.where(x[0] > 0.1, x[0], x[1])), 5, 0.1), 1.05),
    "stack": (IMAGE, of_two(function(lambda tf, x: tf.stack(x, 1)), 5, 0.1), 1.05),
    "split and joined": (IMAGE, of_one(function(lambda tf, x: tf.concat(tf.split(x, 2, -1)[::-1], -1))), 0.05),
    "bilinear": (IMAGE, of_one(lambda la: la.UpSampling2D(2, interpolation="bilinear")), 2.05),
    "nearest": (IMAGE, of_one(lambda la: la.UpSampling2D(2)), 0.05),
    "resized": (IMAGE, of_one(lambda la: la.Resizing(3, 5)), 2.05),
    "resized to nearest": (IMAGE, of_one(lambda la: la.Resizing(5, 5, interpolation="nearest")), 1.05),
    "padding behind a sigmoid": (IMAGE, of_one(lambda la: la.ZeroPadding2D(1), "sigmoid"), 0.05),
    "padding behind one and more": (
        IMAGE,
        lambda la, x: seen(la, la.ZeroPadding2D(1)(la.Lambda(lambda t: t * t + 1)(conv(la, x, "a")))),
        0.05,
    ),
    "largest over a sequence": (SEQUENCE, of_one(lambda la: la.MaxPooling1D(2)), 0.05),
    "largest of all": (IMAGE, of_one(lambda la: la.GlobalMaxPooling2D()), 0.05),
    "smallest of all": (IMAGE, of_one(function(lambda tf, x: tf.reduce_min(x, [1, 2]))), 1.05),
    "cropped": (IMAGE, of_one(lambda la: la.Cropping2D(2)), 0.05),
    "sliced": (IMAGE, of_one(function(lambda tf, x: x[:, 2:4, 2:4])), 1.05),
    "gathered": (IMAGE, of_one(function(lambda tf, x: tf.gather(x, [0, 2], axis=1))), 1.05),
    "permuted": (IMAGE, of_one(lambda la: la.Permute((2, 1, 3))), 0.05),
    "repeated": (IMAGE, of_one(function(lambda tf, x: tf.tile(x, [1, 2, 1, 1]))), 1.05),
    "mirrored": (IMAGE, of_one(function(lambda tf, x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"))), 1.05),
    "clipped": (IMAGE, of_one(function(lambda tf, x: tf.clip_by_value(x, -0.3, 0.4))), 1.05),
    "relu with a ceiling": (IMAGE, of_one(lambda la: la.ReLU(0.5)), 0.05),
    "relu behind the largest": (
        IMAGE,
        lambda la, x: seen(la, la.ReLU()(la.MaxPooling2D(2)(conv(la, x, "a")))),
        1.05,
    ),
    "swish": (IMAGE, of_one(lambda la: la.Activation("swish")), 1.05),
    "learned slopes": (IMAGE, of_one(lambda la: la.PReLU(alpha_initializer="uniform")), 1.05),
    "dilated": (SEQUENCE, lambda la, x: la.Conv1D(4, 3, dilation_rate=2, bias_initializer="ones")(x), 0.05),
    "dense on a sequence": (SEQUENCE, lambda la, x: la.Dense(5, "relu", bias_initializer="ones")(x), 0.05),
    "pooled and reused": (IMAGE, pooled_and_reused, 1.05),
    "joined and reused": (IMAGE, joined_and_reused, 1.05),
}


def made(shape: tuple[int, ...], build: Build, float_layers: tuple[str, ...] = ()) -> tuple[Any, np.ndarray]:
    """A fake-quantized model, and inputs of which some reach every range's ends."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(shape, name="input")
    model = tf.keras.Model(inputs, build(tf.keras.layers, inputs), name="kind")
    x = np.random.default_rng(0).normal(0, 1, (48, *shape)).astype(np.float32)
    return fake_quantized(model, x, float_layers=float_layers), np.concatenate([x, 2 * x[:16], np.sign(x[16:32]) * 4])


def steps_off(quantized: Any, x: np.ndarray, folder: Any) -> np.ndarray:
    """How far a file's answers are from the model's at most, in steps of the output's range, `(channels,)`.

    Of examples that are not near a tie; others may be a step further off. Where each example has one, they are of steps
    that are put on other steps, which no processor sums up: all are held.
    """
    expected, actual = quantized(x).numpy(), tflite.load(folder)(x)
    last = quantized.layers[-1]
    low, high = ends(last) if hasattr(last, "quantizer") else (expected.min(), expected.max())
    off: np.ndarray = np.abs(actual - expected) / ((high - low) / 255)
    sure = clear(quantized, x)
    sure |= not sure.any()
    most = off[sure].reshape(-1, expected.shape[-1]).max(axis=0)
    assert off.max() < most.max() + 1.05
    return most


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_the_fake_quantized_models(name, tmp_path):
    shape, build, most = KINDS[name]
    quantized, x = made(shape, build)
    tflite.write(quantized, tmp_path, "int8", classes=())
    off = steps_off(quantized, x, tmp_path)
    assert (off < most).all(), off
    assert tflite.audit(tmp_path, x[:1]).integer_share == 1


FLOATS: dict[str, Build] = {
    "average": lambda la, x: seen(la, la.AveragePooling2D(4)(conv(la, x, "float", activation="relu"))),
    "activation": lambda la, x: seen(la, la.Activation("tanh")(conv(la, x, "float"))),
    "sum": lambda la, x: seen(la, la.ReLU()(la.Add()([conv(la, x, "float"), conv(la, x, "float_too", 3)]))),
    "concatenate with integers": lambda la, x: la.Concatenate()([conv(la, x, "float"), conv(la, x, "a", 3)]),
    "between integers": lambda la, x: seen(
        la, la.AveragePooling2D(2)(conv(la, la.AveragePooling2D(2)(conv(la, x, "a")), "float", 3))
    ),
    "between activations": lambda la, x: seen(
        la, la.Activation("sigmoid")(conv(la, la.Activation("tanh")(conv(la, x, "a")), "float", 3))
    ),
}


@pytest.mark.parametrize("name", FLOATS)
def test_layers_in_float_have_no_range(name, tmp_path):
    """Neither do those between them."""
    quantized, x = made(IMAGE, FLOATS[name], ("float", "float_too"))
    tflite.write(quantized, tmp_path, "int8", classes=())
    assert (steps_off(quantized, x, tmp_path) < 1.05).all()
    audit = tflite.audit(tmp_path, x[:1])
    assert {layer.name for layer in audit.in_float} <= {"float", "float_too"}
    graph = TFLiteGraph((tmp_path / tflite.FILE).read_bytes())
    ranges = [layer for layer in quantized.layers if hasattr(layer, "quantizer")]
    steps = {round((high - low) / 255, 7) for low, high in map(ends, ranges)}
    in_file = {round(graph.steps(tensor).size, 7) for tensor in range(len(graph.tensors)) if is_computed(graph, tensor)}
    assert in_file <= steps, "no range that the model does not have"


def is_computed(graph: TFLiteGraph, tensor: int) -> bool:
    """Whether a tensor is in integers that an operator computes."""
    return graph.is_integer(tensor) and any(tensor in operator.outputs for operator in graph.operators)


def test_spikes_are_not_cut_off(tmp_path):
    """What is averaged may be much larger than the averages."""
    quantized, x = made(SEQUENCE, KINDS["average over a sequence"][1])
    tflite.write(quantized, tmp_path, "int8", classes=())
    spikes = np.zeros((1, *SEQUENCE), np.float32)
    spikes[0, 6] = x[np.unravel_index(np.abs(x).argmax(), x.shape)[0]][0]
    first, *_ = (ends(layer) for layer in quantized.layers if layer.name == "a_activation_range")
    behind, *_ = (ends(layer) for layer in quantized.layers if "average" in layer.name and hasattr(layer, "quantizer"))
    assert first[1] > 1.3 * behind[1]
    assert (steps_off(quantized, spikes, tmp_path) < 0.05).all()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    quantized, _ = made(IMAGE, joined_and_reused)
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tflite.write(quantized, tmp_path / name, "int8", classes=())
        files.append((tmp_path / name / tflite.FILE).read_bytes())
    assert files[0] == files[1]


def test_a_file_that_cuts_off_is_refused(tmp_path):
    quantized, _ = made(IMAGE, KINDS["bilinear"][1])
    tflite.write(quantized, tmp_path, "int8", classes=())
    graph = TFLiteGraph((tmp_path / tflite.FILE).read_bytes())
    (resize,) = [operator for operator in graph.operators if graph.kind(operator) == "RESIZE_BILINEAR"]
    taken, steps = resize.inputs[0], graph.steps(resize.inputs[0])
    check(graph, {taken: steps}, {taken: taken})
    with pytest.raises(ConversionError, match=r"layer 'a'.*another target"):
        check(graph, {taken: TFLiteSteps(steps.size * 1.1, steps.zero)}, {taken: taken})
    graph.count_in(taken, np.array([steps.size / 2]), np.array([steps.zero]))
    with pytest.raises(ConversionError, match="range"):
        check(graph, {}, {})


def test_integers_at_both_ends_behind_a_shift(tmp_path):
    import tensorflow as tf

    def build(la: Any, x: Any) -> Any:
        x = conv(la, la.Rescaling(1 / 127.5, -1, name="scale")(x), "a", activation="relu")
        return la.Dense(3, activation="sigmoid", name="dense")(la.Flatten()(la.AveragePooling2D(4)(x)))

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(IMAGE, name="input")
    x = np.random.default_rng(0).uniform(0, 255, (48, *IMAGE)).round().astype(np.float32)
    quantized = fake_quantized(tf.keras.Model(inputs, build(tf.keras.layers, inputs)), x)
    tflite.write(quantized, tmp_path, "int8", classes=(), integer_io=True)
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(tflite.audit(tmp_path, x[:1]).kernels)
    assert np.abs(tflite.load(tmp_path)(x) - quantized(x).numpy()).max() < 2.05 / 256


def test_an_output_without_a_range_has_no_integers(tmp_path):
    quantized, _ = made(IMAGE, lambda la, x: la.ELU(name="elu")(conv(la, x, "a")))
    with pytest.raises(ConversionError, match=r"output.*litert_io"):
        tflite.write(quantized, tmp_path, "int8", classes=(), integer_io=True)
