"""Files that break TensorRT's rules, each in one place: every one is seen, and named."""

import numpy as np
import onnx as library
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from small_models import convolutional, images

from tasks.formats.tensorrt import files as tensorrt
from tasks.formats.tensorrt.rules import check
from tasks.quantization.fake_quantization import fake_quantized


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    tensorrt.write(fake_quantized(convolutional(), images(64)), folder, "int8", classes=())
    return folder


@pytest.fixture
def proto(folder):
    """A file that keeps every rule, to be broken."""
    return library.load(folder / tensorrt.FILE)


def node_of(proto, name):
    return next(node for node in proto.graph.node if node.name == name)


def set_constant(proto, name, value):
    proto.graph.initializer.append(numpy_helper.from_array(value, f"{name}_new"))
    return f"{name}_new"


def asymmetric(proto):
    node = node_of(proto, "stem_relu_range/DequantizeLinear")
    node.input[2] = set_constant(proto, "zero", np.array(3, np.int8))
    return node.name, "refused", "its zero point is 3; it has to be 0"


def unsigned(proto):
    node = node_of(proto, "stem_relu_range/QuantizeLinear")
    del node.input[2:]
    return node.name, "refused", "its integers are uint8; TensorRT's are int8"


def integer_bias(proto):
    conv = node_of(proto, "stem/Conv")
    names = [set_constant(proto, f"bias_{n}", np.ones(8, t)) for n, t in enumerate((np.int32, np.float32, np.int32))]
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", names, ["bias"], name="stem/bias", axis=0))
    conv.input[2] = "bias"
    return "stem/bias", "refused", "its integers are int32; TensorRT's are int8"


def activation_by_channel(proto):
    node = node_of(proto, "stem/QuantizeLinear")
    node.input[1] = set_constant(proto, "scale", np.ones(3, np.float32))
    node.input[2] = set_constant(proto, "zero", np.zeros(3, np.int8))
    return node.name, "refused", "it has a scale for each channel; activations take one for the tensor"


def foreign_operator(proto):
    node = node_of(proto, "largest/MaxPool")
    everything = set_constant(proto, "everything", np.ones(16, bool))
    place = list(proto.graph.node).index(node)
    extra = helper.make_node("Compress", [node.input[0], everything], ["all"], name="largest/Compress", axis=1)
    proto.graph.node.insert(place, extra)
    node_of(proto, "largest/MaxPool").input[0] = "all"
    return extra.name, "refused", "TensorRT's parser does not take the operator Compress"


def one_scale(proto):
    node = node_of(proto, "strided/DequantizeLinear")
    node.input[1] = set_constant(proto, "scale", np.array(0.1, np.float32))
    node.input[2] = set_constant(proto, "zero", np.array(0, np.int8))
    return "strided/Conv", "accuracy", "its kernel has one scale for 16 channels: give each its own"


def wrong_axis(proto):
    node = node_of(proto, "pointwise/DequantizeLinear")
    node.attribute[0].i = 1
    return "pointwise/Conv", "float", "its kernel's scales stand along axis 1, TensorRT takes them along 0"


def float_input(proto):
    node = node_of(proto, "strided/Conv")
    node.input[0] = "add_relu/Relu:0"
    return node.name, "float", "what it takes is not held to 8 bits, and its kernel is: TensorRT needs both"


def float_kernel(proto):
    node = node_of(proto, "strided/Conv")
    node.input[1] = set_constant(proto, "kernel", np.ones((16, 8, 3, 3), np.float32))
    return node.name, "float", "its kernel is not held to 8 bits, and what it takes is: TensorRT needs both"


def range_before_relu(proto):
    _pair_before(proto, node_of(proto, "stem_relu/Relu"), 0)
    return "stem_relu/Relu", "time", "a range stands between stem/Conv and it: the two cannot become one kernel"


def range_before_add(proto):
    _pair_before(proto, node_of(proto, "add/Add"), 1)
    return "add/Add", "time", "a range stands between pointwise/Conv and it: the two cannot become one kernel"


def float_skip(proto):
    node_of(proto, "add/Add").input[0] = "stem_relu/Relu:0"
    node_of(proto, "add/Add").input[1] = "depthwise_relu_range/DequantizeLinear:0"
    text = "one side of it is held to 8 bits, the other is not: quantize the skip connection"
    return "add/Add", "float", text


def pooling_to_floats(proto):
    node_of(proto, "largest/Reshape").input[0] = "mean/GlobalAveragePool:0"
    node_of(proto, "dense/Gemm").input[0] = "flat/Reshape:0"
    text = "it takes integers and gives floats: quantize what it gives as well"
    return "mean/GlobalAveragePool", "float", text


def range_before_softmax(proto):
    _pair_before(proto, node_of(proto, "probabilities/Softmax"), 0)
    return "new/DequantizeLinear", "time", "no operator behind it computes in integers"


def _pair_before(proto, node, place):
    scale, zero = node_of(proto, "stem_relu_range/QuantizeLinear").input[1:]
    at = next(n for n, other in enumerate(proto.graph.node) if other.name == node.name)
    quantize = helper.make_node("QuantizeLinear", [node.input[place], scale, zero], ["q"], name="new/QuantizeLinear")
    restore = helper.make_node("DequantizeLinear", ["q", scale, zero], ["dq"], name="new/DequantizeLinear")
    node.input[place] = "dq"
    proto.graph.node.insert(at, restore)
    proto.graph.node.insert(at, quantize)


BREAKS = [
    asymmetric,
    unsigned,
    integer_bias,
    activation_by_channel,
    foreign_operator,
    one_scale,
    wrong_axis,
    float_input,
    float_kernel,
    range_before_relu,
    range_before_add,
    float_skip,
    pooling_to_floats,
    range_before_softmax,
]


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
def test_what_breaks_a_rule_is_named(proto, tmp_path, spoil):
    assert not check(ir.from_proto(proto))
    node, costs, text = spoil(proto)
    findings = check(ir.from_proto(proto))
    assert (node, costs, text) in [(finding.node, finding.costs, finding.text) for finding in findings]
    library.save(proto, tmp_path / tensorrt.FILE)
    audit = tensorrt.audit(tmp_path, images(1))
    in_float = {layer.name for layer in audit.in_float}
    if costs == "refused":
        assert len(in_float) == len(audit.layers), "nothing runs of a file that is refused"
        assert all(layer.why == text for layer in audit.layers)
    else:
        kernels = {finding.node: finding for finding in findings if finding.node.endswith(("Conv", "Gemm"))}
        assert {layer.name: layer.why for layer in audit.in_float} == {
            name.split("/")[0]: finding.text for name, finding in kernels.items() if finding.costs == "float"
        }


def test_an_opset_out_of_reach_is_named(proto):
    proto.opset_import[0].version = 11
    assert "opset 11 is outside 13 to 24" in [finding.text for finding in check(ir.from_proto(proto))]
