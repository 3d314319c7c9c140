"""Every kind of layer that a model may bring, for TensorRT: integers where they can be, and all of its rules kept."""

import numpy as np
import onnx_ir as ir
import pytest
from layer_kinds import KINDS, build

from tasks.formats.tensorrt import files as tensorrt
from tasks.formats.tensorrt.rules import check
from tasks.quantization.fake_quantization import fake_quantized


@pytest.mark.parametrize("name", KINDS)
def test_integer_files_answer_as_the_fake_quantized_model_does_and_keep_the_rules(name, tmp_path):
    model, x = build(name)
    quantized = fake_quantized(model, x)
    tensorrt.write(quantized, tmp_path, "int8", classes=())
    assert not check(ir.load(tmp_path / tensorrt.FILE))
    expected = quantized(x).numpy()
    # half of the steps are left to what is never negative, and what leaves is not rounded, as it is in Keras
    off = np.abs(tensorrt.load(tmp_path)(x) - expected) / (2 * np.ptp(expected) / 255)
    assert off.max() < 2.5
    assert off.mean() < 0.5
    audit = tensorrt.audit(tmp_path, x[:1])
    transposed = {"ConvTranspose (predicted)"}
    recurrent = {"GRU (predicted)", "LSTM (predicted)"}
    assert {layer.kernel for layer in audit.in_float} <= transposed | recurrent
    assert all(layer.why for layer in audit.in_float)
