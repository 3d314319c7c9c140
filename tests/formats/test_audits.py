"""Multiply-accumulates are those of the model, whatever a file folds into its batch, in each runtime's audit."""

import numpy as np
import pytest
from small_models import settle_norms

from tasks.formats import FORMATS
from tasks.formats.parity import targets_apart
from tasks.keras_graph.folding import fold
from tasks.quantization.fake_quantization import fake_quantized


def dilated(la, x):
    for rate in (1, 2, 4):
        x = la.Conv1D(6, 3, dilation_rate=rate, padding="causal", name=f"rate_{rate}")(x)
    return x


# an example's shape, its layers, and multiply-accumulates
MODELS = {
    "dense on steps": ((8, 4), lambda la, x: la.Dense(5)(x), 8 * 4 * 5),
    "dilated": ((16, 4), dilated, 16 * (3 * 4 * 6 + 3 * 6 * 6 + 3 * 6 * 6)),
    "a step at a time": ((3, 6, 6, 2), lambda la, x: la.TimeDistributed(la.Conv2D(4, 3))(x), 3 * 16 * 9 * 2 * 4),
    "in space": ((4, 6, 6, 2), lambda la, x: la.Conv3D(3, 3)(x), 2 * 4 * 4 * 27 * 2 * 3),
    "attention": (
        (8, 4),
        lambda la, x: la.MultiHeadAttention(2, 3)(x, x),
        3 * 8 * 4 * 6 + 2 * 2 * 8 * 8 * 3 + 8 * 6 * 4,
    ),
}


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
@pytest.mark.parametrize("name", MODELS)
def test_work_is_counted_for_all_that_is_folded_into_a_batch(name, target, tmp_path):
    import tensorflow as tf

    shape, layers, macs = MODELS[name]
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input(shape, name="input")
    model = settle_norms(tf.keras.Model(inputs, layers(tf.keras.layers, inputs), name="work"))
    FORMATS[target].write(model, tmp_path, "float32", classes=())
    audit = FORMATS[target].audit(tmp_path, np.ones((1, *shape), np.float32))
    assert audit.macs == macs
    assert "not found" not in {layer.kernel for layer in audit.layers}


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_what_is_called_at_each_step_runs_in_integers(target, tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    image = tf.keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(image))
    frame = settle_norms(tf.keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x), name="frame"))
    inputs = tf.keras.Input((3, 8, 8, 3), name="input")
    x = layers.TimeDistributed(layers.Dense(5, activation="relu"), name="last")(layers.TimeDistributed(frame)(inputs))
    model = tf.keras.Model(inputs, layers.LSTM(4)(x), name="frames")
    draw = np.random.default_rng(0)
    x = draw.normal(0, 1, (32, 3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(fold(model)(x), model(x), rtol=1e-4, atol=1e-5)
    quantized = fake_quantized(model, x)
    assert targets_apart(model, [target], "float32", x, 32) == {}
    assert targets_apart(quantized, [target], "int8", x, 32) == {}
    FORMATS[target].write(quantized, tmp_path, "int8", classes=())
    audit = FORMATS[target].audit(tmp_path, x[:1])
    assert audit.integer_macs == 3 * (36 * 27 * 4 + 4 * 5)


def event(kernel: str, first: str, microseconds: int) -> dict:
    """A kernel's call as ONNX Runtime's profile has it."""
    return {"dur": microseconds, "args": {"op_name": kernel, "input_type_shape": [{first: [1]}]}}


def test_time_in_integers_is_that_of_kernels_that_take_them_and_of_no_loop_around_them():
    from tasks.formats.onnx.audit import _integer_time

    calls = [event("QuantizeLinear", "float", 1), event("QLinearConv", "uint8", 4), event("MaxPool", "int8", 1)]
    calls += [event("DequantizeLinear", "uint8", 2), event("Softmax", "float", 2)]
    assert _integer_time(calls) == 0.5
    assert _integer_time([*calls, event("DynamicQuantizeLSTM", "float", 10)]) == 0.75
    assert _integer_time([*calls, event("Loop", "int64", 90)]) == 0.5, "its body's kernels are called beside it"
    assert _integer_time([]) is None


def test_an_audit_tells_time_in_integers_and_conversions_where_the_runtime_does(tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((8, 8, 3), name="input")
    x = tf.keras.layers.Conv2D(8, 3)(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(x)), name="convolved")
    x = np.random.default_rng(0).normal(0, 1, (16, 8, 8, 3)).astype(np.float32)
    quantized = fake_quantized(model, x)
    audits = {}
    for target in ("onnxruntime", "litert"):
        for precision, source in (("float32", model), ("int8", quantized)):
            folder = tmp_path / f"{target}-{precision}"
            folder.mkdir()
            FORMATS[target].write(source, folder, precision, classes=())
            audits[target, precision] = FORMATS[target].audit(folder, x[:1])
    assert audits["onnxruntime", "float32"].integer_time == 0
    assert 0 < audits["onnxruntime", "int8"].integer_time < 1, "its ends are turned from and into floats"
    assert audits["litert", "int8"].integer_time is None
    assert [audits[key].conversions for key in audits] == [0, 2, 0, 2]
