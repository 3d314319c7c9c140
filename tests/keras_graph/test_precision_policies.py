"""Models that were trained in mixed or other precision: float32 throughout, with the weights that they have."""

import numpy as np
import pytest

from tasks.formats import FORMATS
from tasks.keras_graph.folding import fold
from tasks.keras_graph.precision_policies import halved, in_float32
from tasks.keras_graph.rebuild import kind
from tasks.quantization.fake_quantization import fake_quantized

X = np.random.default_rng(0).uniform(0, 255, (40, 8, 8, 1)).astype(np.float32)
SEQUENCES = np.random.default_rng(1).normal(size=(40, 6, 3)).astype(np.float32)


def image(layers):
    import tensorflow as tf

    inner = tf.keras.Input((8, 8, 4))
    block = tf.keras.Model(inner, layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(inner)), name="block")
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = block(layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(layers.Rescaling(1 / 255)(inputs)))
    x = tf.nn.relu(x) * 2.0
    x = layers.Dense(3, name="out")(layers.Flatten()(x))
    return tf.keras.Model(inputs, layers.Activation("softmax", dtype="float32", name="probabilities")(x))


def sequence(layers):
    import tensorflow as tf

    inputs = tf.keras.Input((6, 3), name="input")
    x = layers.TimeDistributed(layers.Dense(4, activation="relu"))(layers.Masking()(inputs))
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    x = layers.Lambda(lambda t, by: t * by, arguments={"by": 3.0})(layers.MultiHeadAttention(2, 3)(x, x))
    x = tf.cast(layers.LSTM(5)(x), tf.float16)
    return tf.keras.Model(inputs, layers.Dense(2, name="out", dtype="float32")(x))


def made(build, policy):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(2)
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        return build(tf.keras.layers)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "float64"])
@pytest.mark.parametrize(("build", "x"), [(image, X), (sequence, SEQUENCES)])
def test_everything_is_computed_in_float32_with_the_same_weights(build, x, policy):
    theirs, expected = made(build, policy), made(build, "float32")
    expected.set_weights([weight.astype(np.float32) for weight in theirs.get_weights()])
    ours = in_float32(theirs)
    assert {part.dtype_policy.name for part in ours._flatten_layers()} == {"float32"}
    assert {weight.dtype.name for weight in ours.weights} == {"float32"}
    near = 0 if build is image else 2e-3  # a cast that the model itself asks for is to float32 too
    np.testing.assert_allclose(ours(x), expected(x), rtol=1e-5, atol=1e-6 + near)
    if policy.startswith("mixed"):
        np.testing.assert_allclose(ours(x), theirs(x), atol=0.05)


def test_a_model_in_float32_is_left_as_it_is():
    model = made(image, "float32")
    assert in_float32(model) is model


def test_a_model_of_half_precision_can_be_folded_quantized_and_written(tmp_path):
    ours = in_float32(made(image, "mixed_float16"))
    np.testing.assert_allclose(fold(ours)(X), ours(X), atol=1e-5)
    for target in ("onnxruntime", "litert"):
        for precision, source in (("float32", ours), ("int8", fake_quantized(ours, X))):
            place = tmp_path / f"{target}-{precision}"
            place.mkdir()
            FORMATS[target].write(source, place, precision, classes=())
            near = 1e-4 if precision == "float32" else 0.05
            np.testing.assert_allclose(FORMATS[target].load(place, 1)(X), ours(X), atol=near)


def names(model):
    half = halved(model)
    return {layer.name for layer in model._flatten_layers() if id(layer) in half}


def test_operations_and_recurrent_layers_get_what_they_had():
    assert names(made(sequence, "float32")) == set(), "what is not recurrent hands on to what is, or to an operation"


def test_what_answers_and_what_an_operation_takes_stays_in_float32():
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Conv2D(2, 3, name="inner")(layers.Conv2D(2, 3, name="first")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.ReLU(name="before")(x) * 2.0
    x = layers.Dense(4, name="dense")(layers.Flatten(name="flatten")(x))
    x = layers.Dense(3, name="logits")(layers.ReLU(name="last")(x))
    model = tf.keras.Model(inputs, layers.Activation("softmax", name="softmax")(x))
    assert names(model) == {"first", "inner", "flatten", "dense", "last"}


def test_the_inside_of_a_nested_model_counts_too():
    model = made(image, "float32")
    (flatten,) = [layer.name for layer in model.layers if kind(layer) == "Flatten"]
    assert names(model) == {flatten}, "of two layers one answers, and the model inside takes what the other gives"
    assert names(model.get_layer("block")) == set()
