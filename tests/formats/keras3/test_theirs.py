"""What Keras 3 computes and no layer of Keras 2 does is traced: operations, Keras' own layers, code of one's own."""

import importlib
import sys

import numpy as np
import pytest
from small_keras3 import answers, head, settled

from tasks.channels.graph import graph_of
from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.formats.keras import files as keras2
from tasks.formats.keras3 import files as keras3
from tasks.formats.parity import targets_apart
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import is_fake_quantized

IMAGE, SEQUENCE, VECTOR, SOUND = (8, 8, 3), (6, 4), (5,), (64,)


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


BOTH = ("onnxruntime", "litert")


def in_files(model, shape, targets):
    x = np.random.default_rng(2).normal(0, 1, (64, *shape)).astype(np.float32)
    assert targets_apart(model, targets, "float32", x, 64) == {}
    if is_fake_quantized(quantized := fake_quantized(model, x)):  # one layer alone stays in float
        assert targets_apart(quantized, targets, "int8", x, 64) == {}


# an example's shape, what is made of an input, and whether it is traced
KINDS = {
    "products": (SEQUENCE, lambda k, x: k.ops.matmul(x, k.ops.swapaxes(x, 1, 2)), True),
    "sums of products": (SEQUENCE, lambda k, x: k.ops.einsum("bij,bkj->bik", x, x), True),
    "choices": (SEQUENCE, lambda k, x: k.ops.where(x > 0.1, x, x * 0.1), True),
    "statistics": (SEQUENCE, lambda k, x: (x - k.ops.mean(x, -1, True)) / (1 + k.ops.std(x, -1, True)), True),
    "parts": (SEQUENCE, lambda k, x: k.ops.split(x, 2, axis=-1)[1], True),
    "order": (SEQUENCE, lambda k, x: k.ops.sort(x), True),
    "attention": (SEQUENCE, lambda k, x: k.ops.dot_product_attention(*[k.ops.expand_dims(x, 2)] * 3)[:, :, 0], True),
    "places": (SEQUENCE, lambda k, x: k.ops.cast(k.ops.argmax(x, axis=1), "float32"), True),
    "a convolution": (SEQUENCE, lambda k, x: k.ops.conv(x, np.ones((3, 4, 5), np.float32)), True),
    "tanh for gelu": (VECTOR, lambda k, x: k.ops.gelu(x), True),
    "mel": (SOUND, lambda k, x: k.layers.MelSpectrogram(16, 8, sampling_rate=100, num_mel_bins=4, max_freq=50.0)(x), 1),
    "stft": ((64, 1), lambda k, x: k.layers.STFTSpectrogram(frame_length=16, frame_step=8)(x), True),
    "smooth": (IMAGE, lambda k, x: k.layers.Resizing(5, 11, antialias=True)(x), True),
    "one after another": (VECTOR, lambda k, x: k.layers.Pipeline([k.layers.Rescaling(2.0)])(x), True),
    "inside a model": (
        VECTOR,
        lambda k, x: k.Sequential([k.Input(VECTOR), k.layers.Pipeline([k.layers.Rescaling(2.0)])])(x),
        False,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_of_keras_is_traced_without_trust(name, tmp_path, keras):
    shape, layers, at_top = KINDS[name]
    inputs = keras.Input(shape, name="input")
    source = settled(keras.Model(inputs, keras.layers.Dense(3, name="out")(layers(keras, inputs)), name="kind"))
    source.save(tmp_path / "model.keras")
    model = keras2.import_model(tmp_path / "model.keras", trust=False)
    assert (not at_top) or any(type(layer).__name__ == "Traced" for layer in model.layers)
    x = np.random.default_rng(2).normal(0, 1, (3, *shape)).astype(np.float32)
    expected = answers(source, x)[0]
    np.testing.assert_allclose(answers(model, x)[0], expected, rtol=1e-5, atol=1e-5)
    keras2.write(model, tmp_path)
    first = (tmp_path / keras2.FILE).read_bytes()
    np.testing.assert_allclose(answers(keras2.load(tmp_path), x)[0], expected, rtol=1e-5, atol=1e-5)
    keras2.write(keras2.import_model(tmp_path / "model.keras", trust=False), tmp_path)
    assert (tmp_path / keras2.FILE).read_bytes() == first  # what is traced anew is the same


@pytest.mark.parametrize("kind", ["products", "choices", "attention", "mel", "stft"])
def test_what_is_traced_goes_into_every_file(kind, tmp_path, keras):
    shape, layers, _ = KINDS[kind]
    inputs = keras.Input(shape, name="input")
    flat = keras.layers.Flatten()(layers(keras, inputs))
    source = settled(keras.Model(inputs, keras.layers.Dense(3, name="out")(flat), name="kind"))
    source.save(tmp_path / "model.keras")
    in_files(keras2.import_model(tmp_path / "model.keras", trust=False), shape, BOTH)


OWN = """
import keras
import tensorflow as tf

@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Layer):
    def __init__(self, factor=2.0, **settings):
        super().__init__(**settings)
        self.factor, self.drop = factor, keras.layers.Dropout(0.5)
    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, name="mean")
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
    def call(self, x, training=None):
        return self.drop(keras.ops.tanh((x - self.mean) * self.gamma) * self.factor, training=training)
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
    def compute_output_shape(self, shape):
        return shape

class Block(keras.layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.attention, self.inner = keras.layers.MultiHeadAttention(2, 2), keras.layers.LSTM(4, return_sequences=True)
    def build(self, shape):
        self.attention.build(shape, shape)
        self.inner.build(shape)
    def call(self, x):
        return self.inner(x + self.attention(x, x))

class Cell(keras.layers.Layer):
    state_size = 4
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")
    def call(self, x, states):
        return (out := tf.tanh(x @ self.kernel + 0.5 * states[0])), [out]

@keras.saving.register_keras_serializable("mine")
class Own(keras.Model):
    def __init__(self, between=False, **settings):
        super().__init__(**settings)
        self.between = between
        self.one, self.two = keras.layers.Dense(8, "relu", name="one"), keras.layers.Dense(3, name="two")
        self.norm = keras.layers.BatchNormalization(name="norm")
    def call(self, x, training=False):
        x = self.norm(self.one(x), training=training)
        return self.two(tf.nn.relu(x) if self.between else x)
    def get_config(self):
        return {"name": self.name, "between": self.between}

class Kept(keras.layers.Layer):
    def call(self, x):
        if not hasattr(self, "seen"):
            self.seen = tf.Variable(1.0)
        return x * self.seen
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the working folder, as Python imports it."""
    (tmp_path / "own_layers.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_layers", None)
    yield importlib.import_module("own_layers")
    sys.modules.pop("own_layers", None)


LAYERS = {  # LiteRT has no loops over tensors whose batch is free
    "weights": (VECTOR, BOTH, lambda o, k, x: o.Scale(3.0, name="own")(x)),
    "called twice": (VECTOR, BOTH, lambda o, k, x: (own := o.Scale(name="own"))(own(x))),
    "layers inside": (SEQUENCE, BOTH[:1], lambda o, k, x: o.Block(name="own")(x)),
    "a cell": (SEQUENCE, BOTH[:1], lambda o, k, x: k.layers.RNN(o.Cell(), name="own")(x)),
    "in a wrapper": (SEQUENCE, BOTH, lambda o, k, x: k.layers.TimeDistributed(o.Scale(), name="own")(x)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_ones_own_is_traced_when_it_is_trusted(name, own, keras, tmp_path):
    shape, targets, layers = LAYERS[name]
    inputs = keras.Input(shape, name="input")
    x = layers(own, keras, keras.layers.Dense(4, name="first")(inputs))
    source = settled(keras.Model(inputs, keras.layers.Dense(3, name="last")(x), name="model"))
    source.save("model.keras")
    with pytest.raises(ModelError, match=r"own_layers.*set trust: true"):
        keras2.import_model(tmp_path / "model.keras", trust=False)
    sys.modules.pop("own_layers")
    model = keras2.fitted(
        keras2.import_model(tmp_path / "model.keras", trust=True),
        {ONE: shape},
        [head(tuple(source.output.shape[1:]), "regression")],
        "model",
        "model",
    )
    draw = np.random.default_rng(2)
    x = draw.normal(0, 1, (32, *shape)).astype(np.float32)
    np.testing.assert_allclose(answers(model, x)[0], answers(source, x)[0], rtol=1e-5, atol=1e-5)
    in_files(model, shape, targets)
    graph = graph_of(model)  # what it takes and gives keeps its channels, as nothing is known of it
    assert not {name for group in graph.makers for name in group} & {"first", "own"}
    keras2.write(model, tmp_path)
    again = keras2.load(tmp_path)  # without the module
    np.testing.assert_array_equal(answers(again, x)[0], answers(model, x)[0])
    (traced,) = (layer for layer in again.layers if type(layer).__name__ == "Traced")
    before = [weight.numpy() for weight in traced.trainable_weights]
    again.compile("sgd", "mse")
    losses = again.fit(x, draw.normal(0, 1, (32, *source.output.shape[1:])), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    after = [weight.numpy() for weight in traced.trainable_weights]
    moved = [(one != other).any() for one, other in zip(before, after, strict=True)]
    assert moved.count(False) <= (name == "layers inside"), "a bias of all keys alike changes no attention"


@pytest.mark.parametrize("between", [False, True])
def test_a_subclassed_model_is_a_graph_of_what_it_calls(between, own, keras, tmp_path):
    source = own.Own(between, name="theirs")
    x = np.random.default_rng(2).normal(0, 1, (16, 5)).astype(np.float32)
    source(x)
    expected = answers(settled(source), x)[0]
    source.save("model.keras")
    with pytest.raises(ModelError, match="set trust: true"):
        keras2.import_model(tmp_path / "model.keras", trust=False)
    for model in (keras2.import_model(tmp_path / "model.keras", trust=True), keras3.rebuilt(source, "own", "model")):
        np.testing.assert_allclose(answers(model, x)[0], expected, rtol=1e-5, atol=1e-5)
        kinds = {layer.name: type(layer).__name__ for layer in model.layers}
        assert ("theirs" in kinds) == between, "code between its layers hides them"
        assert between or {kinds["one"], kinds["norm"], kinds["two"]} == {"Dense", "BatchNormalization"}
    in_files(keras2.fitted(model, {ONE: (5,)}, [head((3,), "regression")], "model", "model"), (5,), BOTH)


def test_a_variable_that_is_no_weight_is_refused(own, keras):
    inputs = keras.Input(VECTOR)
    layer = own.Kept(name="kept")
    layer(np.ones((1, 5), np.float32))
    source = keras.Model(inputs, layer(inputs))
    with pytest.raises(ModelError, match=r"'kept' \(Kept\) cannot be traced.*make it with add_weight"):
        keras3.rebuilt(source, "kept", "model")


def test_a_module_that_is_not_there_is_named(own, keras, tmp_path, monkeypatch):
    inputs = keras.Input(VECTOR)
    keras.Model(inputs, own.Block(name="own")(keras.layers.Reshape((5, 1))(inputs))).save("model.keras")
    sys.modules.pop("own_layers")
    (tmp_path / "own_layers.py").unlink()
    with pytest.raises(ModelError, match=r"the class Block of own_layers\.py in it, .*in the folder where the module"):
        keras2.import_model(tmp_path / "model.keras", trust=True)
