"""Every kind of layer that a model may bring: the same answers from Keras and each format, in float and integers."""

import numpy as np
import pytest
from layer_kinds import IMAGE, KINDS, VECTOR, build
from ties import clear

from tasks.formats import FORMATS
from tasks.quantization.fake_quantization import fake_quantized

RESCALED = ("concatenate",)  # LiteRT rounds once more where it changes a range
TARGETS = ("onnxruntime", "litert", "savedmodel")  # tensorrt takes other ranges, and has tests of its own


@pytest.mark.parametrize("name", KINDS)
def test_float_files_answer_as_keras_does(name, tmp_path):
    model, x = build(name)
    expected = model(x).numpy()
    for target in TARGETS:
        form = FORMATS[target]
        folder = tmp_path / target
        folder.mkdir()
        form.write(model, folder, "float32", classes=())
        np.testing.assert_allclose(form.load(folder)(x), expected, rtol=1e-4, atol=1e-5, err_msg=target)


@pytest.mark.parametrize("name", KINDS)
def test_integer_files_answer_as_the_fake_quantized_model_does(name, tmp_path):
    model, x = build(name)
    quantized = fake_quantized(model, x)
    expected = quantized(x).numpy()
    step = (expected.max() - expected.min()) / 255
    sure = clear(quantized, x)
    assert sure.mean() > 0.2
    shares = dict(zip(TARGETS, (*KINDS[name][2:], 0), strict=True))
    for target in TARGETS:
        form = FORMATS[target]
        folder = tmp_path / target
        folder.mkdir()
        form.write(quantized, folder, "int8", classes=())
        off = np.abs(form.load(folder)(x) - expected) / step
        if target != "litert":
            assert off[sure].max() < 0.05, target  # the same steps, all of them
            assert off.max() < 1.05, target
        else:
            assert off.max() < (2.1 if name in RESCALED else 1.05), target
            assert np.mean(off > 1.05) < 0.05, target
        audit = form.audit(folder, x[:1])
        assert audit.macs > 0
        assert audit.everywhere, (target, audit.everywhere_in_words)
        if target == "litert":
            assert {layer.name for layer in audit.in_float} <= {"r"}, audit  # named as in Keras
        assert audit.integer_share >= shares[target], (target, audit)


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    """Nothing here can train or measure such a model, but each format writes it, in float and integers."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from onnxruntime import InferenceSession

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(3)
    image, values = tf.keras.Input(IMAGE, name="image"), tf.keras.Input(VECTOR, name="values")
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(4, 3, activation="relu", name="conv")(image))
    x = layers.Concatenate(name="both")([x, layers.Dense(3, activation="relu", name="dense")(values)])
    model = tf.keras.Model([image, values], [layers.Dense(2, name="first")(x), layers.Dense(5, name="second")(x)])
    draw = np.random.default_rng(0)
    inputs = {
        "image": draw.normal(size=(1, *IMAGE)).astype("f4"),
        "values": draw.normal(size=(1, *VECTOR)).astype("f4"),
    }
    expected = dict(zip(("first", "second"), model(list(inputs.values())), strict=True))
    for target in TARGETS:
        (tmp_path / target).mkdir()
        FORMATS[target].write(model, tmp_path / target, "float32", classes=())
    session = InferenceSession(str(tmp_path / "onnxruntime" / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    lite = Interpreter(str(tmp_path / "litert" / "model.tflite")).get_signature_runner("serving_default")
    served = tf.saved_model.load(str(tmp_path / "savedmodel")).signatures["serving_default"]
    for actual in (dict(zip(names, session.run(None, inputs), strict=True)), lite(**inputs), served(**inputs)):
        assert set(actual) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(actual[name], values, rtol=1e-4, atol=1e-5)
