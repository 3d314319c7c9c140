import numpy as np
import pytest
from small_models import convolutional, images

from tasks.errors import ConversionError
from tasks.formats import savedmodel
from tasks.ranges import fake_quantized


@pytest.fixture(scope="module")
def model():
    return convolutional()


def test_it_serves_named_inputs_and_outputs(model, tmp_path):
    import tensorflow as tf

    savedmodel.write(model, tmp_path, "float32", classes=("cat", "dog"))
    loaded = tf.saved_model.load(str(tmp_path))
    signature = loaded.signatures[savedmodel.SIGNATURE]
    assert signature.structured_input_signature[1]["input"].shape.as_list() == [None, 12, 12, 3]
    assert list(signature.structured_outputs) == ["probabilities"]
    assert (tmp_path / "assets" / savedmodel.CLASSES).read_text() == "cat\ndog\n"
    x = images(9)
    np.testing.assert_allclose(savedmodel.load(tmp_path)(x), model.predict(x, verbose=0), atol=1e-6)


def test_a_fake_quantized_model_answers_the_same_and_is_said_to_run_in_float(model, tmp_path):
    held = fake_quantized(model, images(64))
    savedmodel.write(held, tmp_path, "int8", classes=())
    x = images(100, seed=3)
    np.testing.assert_allclose(savedmodel.load(tmp_path)(x), held.predict(x, verbose=0), atol=0.02)
    audit = savedmodel.audit(tmp_path, x[:1])
    assert audit.integer_share == 0
    assert audit.macs == 31104 + 10368 + 9216 + 41472 + 192 + 60
    assert {layer.why for layer in audit.layers} == {"TensorFlow computes fake-quantized values in float"}
    assert {layer.name for layer in audit.layers} == {"stem", "depthwise", "pointwise", "strided", "dense", "logits"}


@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_other_precisions_are_refused_with_the_way_out(model, tmp_path, precision):
    with pytest.raises(ConversionError, match=f"savedmodel in {precision}.*targets"):
        savedmodel.write(model, tmp_path, precision, classes=())
