"""Files for TensorRT: the numbers in them, and what its rules say of them. Nothing here needs a GPU."""

import numpy as np
import onnx as library
import onnx_ir as ir
import pytest
from small_models import convolutional, images, settle_norms
from zoo_ends import ends_for

from tasks.contract.errors import ConversionError
from tasks.formats.tensorrt import files as tensorrt
from tasks.formats.tensorrt.rules import check
from tasks.quantization.fake_quantization import fake_quantized
from tasks.zoo import ARCHITECTURES


@pytest.fixture(scope="module")
def model():
    return convolutional()


@pytest.fixture(scope="module")
def quantized_model(model):
    return fake_quantized(model, images(64))


@pytest.fixture(scope="module")
def folder(quantized_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    tensorrt.write(quantized_model, folder, "int8", classes=("a", "b"))
    return folder


@pytest.fixture
def graph(folder):
    return ir.load(folder / tensorrt.FILE).graph


def numbers(value):
    return value.const_value.numpy()


def kinds_behind(value):
    return sorted(consumer.op_type for consumer in value.consumers())


def quantized(name):
    """A model of one layer kind or a few, with ranges, and its examples."""
    import tensorflow as tf

    la = tf.keras.layers
    shape = (10, 4) if name == "sequence" else (8, 8, 3)
    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input(shape, name="input")
    if name == "sequence":
        x = la.Conv1D(6, 3, activation="relu", bias_initializer="ones", name="first")(inputs)
        x = la.Conv1D(3, 3, name="second")(la.MaxPooling1D(2, name="pool")(x))
    elif name == "ceiling":
        x = la.ReLU(6.0, name="relu")(la.Conv2D(4, 3, name="first")(inputs))
        x = la.Conv2D(4, 3, name="second")(x)
    elif name == "activation":
        x = la.Conv2D(4, 3, activation="swish", name="first")(inputs)
        x = la.Conv2D(4, 3, name="second")(x)
    elif name == "shortcut":
        x = la.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
        x = la.Add(name="add")([la.Conv2D(4, 1, name="short")(inputs), la.Conv2D(4, 3, padding="same", name="long")(x)])
        x = la.Conv2D(2, 1, name="last")(la.ReLU(name="relu")(x))
    elif name == "moved":
        x = la.ZeroPadding2D(1, name="pad")(inputs)
        x = la.Add(name="add")([x, la.Conv2D(3, 3, padding="same", name="first")(x)])
        x = la.Conv2D(2, 1, name="last")(x)
    elif name == "largest":
        x = la.Dense(4, name="first")(la.GlobalMaxPooling2D(name="pool")(inputs))
    elif name == "transposed":
        x = la.Conv2DTranspose(4, 3, strides=2, padding="same", name="first")(inputs)
    examples = np.random.default_rng(0).normal(0, 4, (64, *shape)).astype(np.float32)
    return fake_quantized(tf.keras.Model(inputs, x, name=name), examples), examples


def written(name, folder):
    model, examples = quantized(name)
    tensorrt.write(model, folder, "int8", classes=())
    expected, actual = model(examples).numpy(), tensorrt.load(folder)(examples)
    assert np.abs(actual - expected).max() < 6 * (expected.max() - expected.min()) / 255
    return ir.load(folder / tensorrt.FILE)


def test_every_integer_is_signed_and_every_zero_point_is_zero(graph):
    pairs = [node for node in graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 20
    for node in pairs:
        scale, zero = map(numbers, node.inputs[1:])
        assert (zero.dtype, zero.any()) == (np.int8, False)
        assert (scale.dtype, scale.shape) == (np.float32, zero.shape)
        assert np.all(scale > 0)
    used = {numbers(value).dtype.name for value in graph.initializers.values()}
    assert used <= {"int8", "float32", "int64"}, "no int32 bias, no uint8"


def test_kernels_have_a_scale_for_each_output_channel_and_biases_stay_in_float(graph):
    shapes = {}
    for node in graph:
        if node.op_type in ("Conv", "Gemm"):
            kernel = node.inputs[1].producer()
            steps, scales, zeros = map(numbers, kernel.inputs)
            axis = 0 if node.op_type == "Conv" else 1
            assert steps.dtype == np.int8
            assert np.abs(steps).max() > 64, "more than half the range"
            assert scales.shape == zeros.shape == (steps.shape[axis],)
            assert kernel.attributes.get_int("axis") == axis
            activation = node.inputs[0].producer()
            assert activation.op_type == "DequantizeLinear", "directly in front, moved or not"
            assert numbers(activation.inputs[1]).shape == ()
            assert all(numbers(value).dtype == np.float32 for value in node.inputs[2:])
            shapes[node.name] = steps.shape
    assert shapes == {
        "stem/Conv": (8, 3, 3, 3),
        "depthwise/Conv": (8, 1, 3, 3),
        "pointwise/Conv": (8, 8, 1, 1),
        "strided/Conv": (16, 8, 3, 3),
        "dense/Gemm": (16, 12),
        "logits/Gemm": (12, 5),
    }


def test_ranges_are_those_of_the_keras_model_made_symmetric(quantized_model, graph):
    from tasks.quantization.parameters import nudged

    for name in ("stem_relu_range", "add_relu_range", "mean_range", "dense_relu_range"):
        least, most = nudged(quantized_model.get_layer(name))
        scale = numbers(graph.node(f"{name}/QuantizeLinear").inputs[1])
        assert scale == pytest.approx(max(-least, most) / 127, rel=1e-6)


def test_relu_stands_directly_behind_what_computes(graph):
    relus = [node for node in graph if node.op_type == "Relu"]
    assert len(relus) == 5
    for node in relus:
        assert node.inputs[0].producer().op_type in ("Conv", "Gemm", "Add")
        assert kinds_behind(node.outputs[0]) == ["QuantizeLinear"]


def test_the_skip_is_held_and_the_kernel_before_the_add_gives_it_floats(graph):
    sides = [value.producer().name for value in graph.node("add/Add").inputs]
    assert sides == ["stem_relu_range/DequantizeLinear", "pointwise/Conv"]
    assert kinds_behind(graph.node("stem_relu_range/DequantizeLinear").outputs[0]) == ["Add", "Conv"]


def test_of_two_kernels_before_an_add_the_last_to_run_is_the_one_in_float(tmp_path):
    model = written("shortcut", tmp_path)
    sides = {value.producer().op_type: value.producer() for value in model.graph.node("add/Add").inputs}
    assert sorted(sides) == ["Conv", "DequantizeLinear"]
    names = [node.name for node in model.graph]
    assert names.index(sides["Conv"].name) == max(names.index("short/Conv"), names.index("long/Conv"))
    assert not check(model)


def test_a_skip_that_was_moved_on_its_way_is_held_as_well(tmp_path):
    model = written("moved", tmp_path)
    sides = [value.producer().op_type for value in model.graph.node("add/Add").inputs]
    assert sorted(sides) == ["Conv", "DequantizeLinear"]
    assert not check(model)


def test_the_largest_of_integers_is_one(tmp_path):
    model = written("largest", tmp_path)
    pair = ["QuantizeLinear", "DequantizeLinear"]
    assert [node.op_type for node in model.graph] == [*pair, "ReduceMax", *pair, "DequantizeLinear", "Gemm"]
    assert tensorrt.audit(tmp_path, np.zeros(0)).integer_share == 1


def test_what_leaves_is_not_rounded(graph):
    assert graph.node("probabilities/Softmax").inputs[0].producer().name == "logits/Gemm"


def test_raw_values_are_quantized_as_they_come(graph):
    (input_,) = graph.inputs
    assert kinds_behind(input_) == ["QuantizeLinear"]
    assert numbers(input_.consumers()[0].inputs[1]) == pytest.approx(255 / 127, rel=0.01)


def test_a_relu_with_a_ceiling_that_its_range_keeps_is_a_relu(tmp_path):
    model = written("ceiling", tmp_path)
    assert [node.op_type for node in model.graph if node.op_type in ("Relu", "Clip")] == ["Relu"]
    assert not check(model)


def test_an_activation_without_integers_gets_floats(tmp_path):
    model = written("activation", tmp_path)
    assert kinds_behind(model.graph.node("first/Conv").outputs[0]) == ["Mul", "Sigmoid"]
    assert not check(model)
    assert tensorrt.audit(tmp_path, np.zeros(0)).integer_share == 1


def test_one_dimension_is_as_good_as_two(tmp_path):
    model = written("sequence", tmp_path)
    conv = model.graph.node("first/Conv")
    assert numbers(conv.inputs[2]).shape == (6,), "the bias is behind a Squeeze in Keras"
    assert kinds_behind(conv.outputs[0]) == ["Relu"]
    assert kinds_behind(model.graph.node("first_activation/Relu").outputs[0]) == ["QuantizeLinear"]
    assert not check(model)


def test_a_transposed_convolution_stays_in_float_and_says_why(tmp_path):
    model = written("transposed", tmp_path)
    assert [node.op_type for node in model.graph if "Linear" in node.op_type] == []
    (layer,) = tensorrt.audit(tmp_path, np.zeros(0)).in_float
    assert (layer.name, layer.kernel) == ("first", "ConvTranspose (predicted)")
    assert "TensorRT takes transposed ones by input channel" in layer.why
    assert not check(model)


def test_the_file_is_valid_and_answers_as_the_keras_model_does(quantized_model, folder):
    proto = library.load(folder / tensorrt.FILE)
    library.checker.check_model(proto, full_check=True)
    assert (proto.opset_import[0].version, proto.ir_version) == (17, 8)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = images(1000, seed=4)
    theirs, ours = tensorrt.load(folder)(x), quantized_model.predict(x, verbose=0)
    assert np.mean(theirs.argmax(1) == ours.argmax(1)) >= 0.98
    assert np.abs(theirs - ours).max() < 0.05


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_float_files_answer_too_and_have_no_integers(model, tmp_path, precision):
    tensorrt.write(model, tmp_path, precision, classes=())
    x = images(50, seed=3)
    assert np.abs(tensorrt.load(tmp_path)(x) - model(x).numpy()).max() < {"float32": 1e-5, "float16": 5e-3}[precision]
    audit = tensorrt.audit(tmp_path, x[0])
    assert audit.integer_share == 0
    assert all("held to 8 bits" in layer.why for layer in audit.layers)


def test_the_audit_is_a_prediction_and_says_so(folder):
    audit = tensorrt.audit(folder, images(1))
    assert audit.integer_share == 1
    assert [layer.name for layer in audit.layers] == ["stem", "depthwise", "pointwise", "strided", "dense", "logits"]
    assert {layer.name: layer.macs for layer in audit.layers}["strided"] == 36 * 9 * 8 * 16
    assert all(kernel.endswith("(predicted)") for kernel in audit.kernels)
    assert (audit.kernels["int8 Conv (predicted)"], audit.kernels["int8 Gemm (predicted)"]) == (4, 2)


def test_a_layer_that_is_to_stay_in_float_does(model, tmp_path):
    partly = fake_quantized(model, images(64), float_layers=("strided",))
    tensorrt.write(partly, tmp_path, "int8", classes=())
    audit = tensorrt.audit(tmp_path, images(1))
    assert [(layer.name, layer.why) for layer in audit.in_float] == [
        ("strided", "neither what it takes nor its kernel is held to 8 bits")
    ]
    assert not check(ir.load(tmp_path / tensorrt.FILE))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"lstm", "transformer"}))  # whose kernels are floats'
def test_architectures_are_in_integers(name, tmp_path):
    ends = ends_for(name)
    model = settle_norms(ARCHITECTURES[name].build(ends, 0.25))
    examples = np.random.default_rng(0).uniform(0, 1, (16, *ends.inputs[0].shape)).astype(np.float32)
    tensorrt.write(fake_quantized(model, examples), tmp_path, "int8", classes=())
    assert tensorrt.audit(tmp_path, examples[0]).integer_share >= 0.99
    assert not check(ir.load(tmp_path / tensorrt.FILE))


def test_what_the_parser_refuses_is_not_written(tmp_path):
    import tensorflow as tf

    inputs = tf.keras.Input((4,), name="input")
    shift = tf.keras.layers.Lambda(
        lambda x: tf.cast(tf.bitwise.left_shift(tf.cast(x, tf.uint8), tf.constant(1, tf.uint8)), tf.float32), name="odd"
    )
    model = tf.keras.Model(inputs, shift(inputs), name="shifting")
    with pytest.raises(ConversionError, match=r"layer 'odd'.* tensorrt: .*operator BitShift: name another"):
        tensorrt.write(model, tmp_path, "float32", classes=())
    assert not list(tmp_path.iterdir())


def test_int8_needs_ranges(model, tmp_path):
    with pytest.raises(ConversionError, match=r"'convolutional' has no ranges.*tensorrt in int8.*quantize.method"):
        tensorrt.write(model, tmp_path, "int8", classes=())
    assert not list(tmp_path.iterdir())
