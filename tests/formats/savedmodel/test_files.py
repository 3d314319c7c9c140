import numpy as np
import pytest
from small_models import convolutional, images

from tasks.contract.errors import ConversionError
from tasks.formats.savedmodel import files as savedmodel
from tasks.quantization.fake_quantization import fake_quantized


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


def test_a_fake_quantized_model_answers_the_same_and_is_shown_to_run_in_float(model, tmp_path):
    quantized = fake_quantized(model, images(64))
    savedmodel.write(quantized, tmp_path, "int8", classes=())
    x = images(100, seed=3)
    np.testing.assert_allclose(savedmodel.load(tmp_path)(x), quantized.predict(x, verbose=0), atol=0.02)
    audit = savedmodel.audit(tmp_path, x[:1])
    assert audit.integer_share == 0
    assert audit.macs == 31104 + 10368 + 9216 + 41472 + 192 + 60
    assert {layer.why for layer in audit.layers} == {"TensorFlow computes fake-quantized values in float"}
    assert {layer.name for layer in audit.layers} == {"stem", "depthwise", "pointwise", "strided", "dense", "logits"}


@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_other_precisions_are_refused_with_the_way_out(model, tmp_path, precision):
    with pytest.raises(ConversionError, match=f"savedmodel in {precision}.*targets"):
        savedmodel.write(model, tmp_path, precision, classes=())


def test_the_warm_up_record_is_a_request_that_the_model_answers(model, tmp_path):
    """Read without our declarations: TFRecord by TensorFlow, the message by its wire format."""
    import tensorflow as tf

    savedmodel.write(model, tmp_path, "float32", classes=())
    x = images(2)
    savedmodel.warm_up(tmp_path, x)
    (record,) = tf.data.TFRecordDataset(str(tmp_path / "assets.extra" / "tf_serving_warmup_requests"))
    request = fields(fields(fields(record.numpy())[6][0])[1][0])  # predict_log, request
    assert fields(request[1][0])[3] == [b"serving_default"]
    (entry,) = request[2]
    name, tensor = fields(entry)[1][0], tf.io.parse_tensor(fields(entry)[2][0], tf.float32)
    function = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    answers = function(**{name.decode(): tensor})["probabilities"]
    np.testing.assert_allclose(answers, model.predict(x, verbose=0), atol=1e-6)


def fields(message: bytes) -> dict[int, list[bytes]]:
    """The length-delimited fields of a protobuf message by number."""
    contents: dict[int, list[bytes]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        assert key & 7 == 2
        length = varint()
        contents.setdefault(key >> 3, []).append(message[at : at + length])
        at += length
    return contents
