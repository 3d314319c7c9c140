"""Steps that a model of Keras 3 leaves out are left out in Keras 2 too, whatever hands masks on; or it is refused."""

import inspect

import numpy as np
import pytest
from layer_sweep import cases
from small_keras3 import answers

from tasks.contract.errors import ModelError
from tasks.formats import FORMATS
from tasks.formats.keras import files as format_keras
from tasks.formats.keras3 import files as keras3
from tasks.formats.keras3.compare import Different, first_difference
from tasks.formats.keras3.composed_layers import MADE
from tasks.formats.keras3.layers import INERT, SAME, WRAPPERS
from tasks.formats.keras3.masks import HANDING_ON, PASSING, READING
from tasks.quantization.fake_quantization import fake_quantized


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


STEPS, CHANNELS, WORDS = 6, 4, 9


def _block(la, x):
    x = la.LayerNormalization()(la.Add()([x, la.MultiHeadAttention(2, 3)(x, x)]))
    return la.LayerNormalization()(la.Add()([x, la.Dense(CHANNELS)(la.Dense(7, activation="relu")(x))]))


def _inner(k, layers):
    within = k.Input((STEPS, CHANNELS))
    return k.Model(within, layers(k.layers, within), name="inner")


# What is made of two masked tensors, one without a mask, and words; most ends tell whether a mask is there
MASKED = {
    "rescaled": lambda la, k, x, y, z, w: la.LSTM(3)(la.Rescaling(0.5)(x)),
    "normalized": lambda la, k, x, y, z, w: la.LSTM(3)(la.Normalization(mean=0.5, variance=2.0)(x)),
    "identity": lambda la, k, x, y, z, w: la.LSTM(3)(la.Identity()(x)),
    "normalized in groups": lambda la, k, x, y, z, w: la.LSTM(3)(la.GroupNormalization(2)(x)),
    "added to one without": lambda la, k, x, y, z, w: la.LSTM(3)(la.Add()([x, z])),
    "added": lambda la, k, x, y, z, w: la.LSTM(3)(la.Average()([x, y])),
    "multiplied": lambda la, k, x, y, z, w: la.LSTM(3)(la.Multiply()([la.Dense(4)(x), y])),
    "gated": lambda la, k, x, y, z, w: la.Flatten()(la.Multiply()([la.Dense(4)(x), la.Dense(4)(x)])),
    "multiplied by one without": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(la.Multiply()([x, y, z])),
    "largest": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(la.Maximum()([la.Dense(4)(x), y])),
    "smallest of one": lambda la, k, x, y, z, w: la.Flatten()(la.Minimum()([la.Dense(4)(x), x, la.Rescaling(0.3)(x)])),
    "largest beside one without": lambda la, k, x, y, z, w: la.Flatten()(la.Maximum()([x, z])),
    "joined": lambda la, k, x, y, z, w: la.GRU(3)(la.Concatenate()([x, y])),
    "joined to one without": lambda la, k, x, y, z, w: la.GRU(3)(la.Concatenate()([x, z])),
    "one after another": lambda la, k, x, y, z, w: la.GRU(3)(la.Concatenate(axis=1)([x, y])),
    "one after one without": lambda la, k, x, y, z, w: la.GRU(3)(la.Concatenate(axis=1)([x, z])),
    "attention": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(_block(la, _block(la, w))),
    "attention across": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(
        la.MultiHeadAttention(2, 3)(la.Rescaling(0.5)(w), la.Add()([w, z]), w, use_causal_mask=True)
    ),
    "attention by name": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(
        la.MultiHeadAttention(2, 3)(
            value=la.GRU(4, return_sequences=True)(sequences=y), query=la.Rescaling(0.5)(inputs=x)
        )
    ),
    "attention twice": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(
        la.Concatenate()([la.MultiHeadAttention(2, 3)(x, x), la.MultiHeadAttention(1, 2)(la.Dropout(0.1)(x), y)])
    ),
    "attention beside a gate": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(
        la.Multiply()([la.MultiHeadAttention(2, 3)(x, x), la.Dense(4, activation="sigmoid")(x)])
    ),
    "attention of scores": lambda la, k, x, y, z, w: la.LSTM(3)(la.Attention()([la.Rescaling(0.5)(x), y])),
    "states": lambda la, k, x, y, z, w: la.LSTM(4)(y, initial_state=la.LSTM(4, return_state=True)(x)[1:]),
    "both ways": lambda la, k, x, y, z, w: la.GlobalMaxPooling1D()(
        la.Bidirectional(la.LSTM(3, return_sequences=True))(la.Rescaling(0.5)(x))
    ),
    "zeros for what is left out": lambda la, k, x, y, z, w: la.Flatten()(
        la.GRU(3, return_sequences=True, zero_output_for_mask=True)(x)
    ),
    "by argument": lambda la, k, x, y, z, w: la.LSTM(3)(
        z, mask=k.ops.logical_and(z[..., 0] > 0, k.ops.not_equal(z[..., 1], 0))
    ),
    "by another argument": lambda la, k, x, y, z, w: la.LSTM(3)(x, mask=k.ops.any(k.ops.not_equal(y, 0), axis=-1)),
    "by an operation without a like": lambda la, k, x, y, z, w: la.LSTM(3)(
        x, mask=k.ops.isfinite(k.ops.log(z[..., 0]))
    ),
    "operations": lambda la, k, x, y, z, w: la.LSTM(3)(k.ops.softmax(x, axis=-1) + y),
    "a mean of all": lambda la, k, x, y, z, w: k.ops.mean(x, axis=1),
    "a step at a time": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(
        la.TimeDistributed(la.Flatten())(la.TimeDistributed(la.Reshape((2, 2)))(x))
    ),
    "inside": lambda la, k, x, y, z, w: la.GlobalAveragePooling1D()(_inner(k, lambda la, t: la.Dense(3)(t))(x)),
    "attention inside": lambda la, k, x, y, z, w: la.LSTM(3)(la.Add()([w, _inner(k, _block)(w)])),
}


def built(keras, layers):
    la = keras.layers
    one, two, three = (keras.Input((STEPS, CHANNELS), name=name) for name in ("one", "two", "three"))
    words = keras.Input((STEPS,), dtype="int32", name="words")
    x, y = la.Masking()(one), la.Masking(0.5)(two)
    embedded = la.Embedding(WORDS, CHANNELS, mask_zero=True)(words)
    model = keras.Model([one, two, three, words], layers(la, keras, x, y, three, embedded), name="masked")
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def examples():
    """Of twelve, most end early, one begins late, and one has gaps; each input by itself."""
    draw = np.random.default_rng(2)
    x = [draw.normal(0, 1, (12, STEPS, CHANNELS)).astype(np.float32) for _ in range(3)]
    x.append(draw.integers(1, WORDS, (12, STEPS)).astype(np.int32))
    for values, mark in zip(x, (0, 0.5, 0, 0), strict=True):
        for place in range(10):
            values[place, 1 + draw.integers(0, STEPS - 1) :] = mark
        values[10, :3], values[11, 1::2] = mark, mark
    return x


@pytest.mark.parametrize("name", MASKED)
def test_the_same_steps_are_left_out(name, keras, tmp_path):
    source = built(keras, MASKED[name])
    model = keras3.rebuilt(source, name, "model")
    expected = answers(source, examples())[0]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(answers(model, examples())[0], expected, rtol=1e-4, atol=1e-5)
    format_keras.write(model, tmp_path)
    np.testing.assert_allclose(answers(format_keras.load(tmp_path), examples())[0], expected, rtol=1e-4, atol=1e-5)


def test_a_chain_of_layers_gets_its_masks(keras):
    la = keras.layers
    chain = [la.Masking(), la.Rescaling(0.5), la.LSTM(3, return_sequences=True), la.GlobalAveragePooling1D()]
    source = keras.Sequential([keras.Input((STEPS, CHANNELS)), *chain])
    model = keras3.rebuilt(source, "chain", "model")
    x = examples()[0]
    np.testing.assert_allclose(answers(model, x)[0], answers(source, x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_files_leave_out_the_same_steps(target, precision, keras, tmp_path):
    la, x = keras.layers, examples()[0]
    inputs = keras.Input((STEPS, CHANNELS))
    kept = la.Rescaling(0.5)(la.Masking()(inputs))
    gated = la.Multiply()([la.Dense(CHANNELS)(kept), la.Dense(CHANNELS, activation="sigmoid")(kept)])
    source = keras.Model(inputs, la.Dense(3)(la.GlobalAveragePooling1D()(gated)), name="gated")
    model = keras3.rebuilt(source, "gated", "model")
    expected = answers(source, x)[0]
    model = fake_quantized(model, x) if precision == "int8" else model
    FORMATS[target].write(model, tmp_path, precision, classes=())
    off = 1e-5 if precision == "float32" else 0.05 * np.ptp(expected)
    np.testing.assert_allclose(FORMATS[target].load(tmp_path)(x), expected, rtol=0, atol=off)


UNMASKABLE = {
    "inside": (
        lambda la, k, x, y, z, w: _inner(k, lambda la, t: la.LSTM(3)(la.Rescaling(0.5)(t)))(x),
        r"'inner' \(Functional\) is given a mask, and its layer 'lstm\w*' \(LSTM\).*into the outer one",
    ),
    "by a sum": (
        lambda la, k, x, y, z, w: la.LSTM(3, name="lstm")(x, mask=k.ops.any(k.ops.equal(z, 0), axis=2, keepdims=True)),
        r"'lstm' is given a mask that 'any\w*' \(Any\) makes.*have a Masking layer",
    ),
    "three extremes": (
        lambda la, k, x, y, z, w: la.Maximum(name="most")([x, y, w]),
        r"'most' \(Maximum\) is given more than two tensors.*two at a time",
    ),
}


@pytest.mark.parametrize("name", UNMASKABLE)
def test_a_mask_that_cannot_be_passed_is_refused_by_the_layer(name, keras):
    layers, message = UNMASKABLE[name]
    with pytest.raises(ModelError, match=message):
        keras3.rebuilt(built(keras, layers), name, "model")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GlobalAveragePooling1D"])
@pytest.mark.parametrize("mark", [0.0, -3.0])
def test_a_model_that_differs_where_steps_are_masked_alone_is_found(kind, mark, keras):
    """Examples with masked steps are among those that are compared, whatever a model takes for one."""
    import tensorflow as tf

    def of(layers, stop):
        inputs = layers.Input((STEPS, CHANNELS), name="input")
        x = layers.Masking(mark, name="masked")(inputs)
        x = layers.Reshape((STEPS, CHANNELS), name="stop")(x) if stop else x
        return inputs, getattr(layers, kind)(*([3] if kind != "GlobalAveragePooling1D" else []), name="last")(x)

    source = keras.Model(*of(keras.layers, False))
    same, other = (tf.keras.Model(*of(tf.keras.layers, stop)) for stop in (False, True))
    for model in (same, other):
        model.set_weights(source.get_weights())
    first_difference(same, source)
    with pytest.raises(Different, match=f"first at its layer 'last' .{kind}"):
        first_difference(other, source)


def test_what_hands_masks_on_is_what_does_in_keras(keras):
    """The tables, compared with the layers of the Keras 3 that is installed."""
    names = {key: value for key, value in vars(keras.layers).items() if not key.startswith("_")}
    base, layers_by_name = keras.layers.Layer, {}
    for case in cases(3):
        x, y = (keras.Input(case.shape, case.batch) for _ in range(2))
        layer = eval(case.line, {**names, "x": x, "y": y})
        if not isinstance(layer, base):
            layer = keras.tree.flatten(layer)[0]._keras_history.operation
        layers_by_name[type(layer).__name__] = layer
    known = SAME | WRAPPERS | INERT | MADE.keys()
    assert known - layers_by_name.keys() <= {"RandomCrop"}
    for name in known & layers_by_name.keys():
        layer = layers_by_name[name]
        handing = layer.supports_masking and type(layer).compute_mask is base.compute_mask
        assert (name in HANDING_ON) == handing, name
        if name not in ("BatchNormalization", "TimeDistributed"):  # of which the inner one reads it
            assert (name in READING) == ("mask" in inspect.signature(type(layer).call).parameters), name
    for name in PASSING & layers_by_name.keys():
        x = keras.ops.ones((2, *{"2D": (3, 3), "3D": (3, 3, 3)}.get(name[-2:], (3,)), 4))
        assert layers_by_name[name](x, training=False) is x, name
