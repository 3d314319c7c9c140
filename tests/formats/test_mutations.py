"""A converter that is broken on purpose: validate refuses its files, every time, and says where they part.

What evidence is worth is what it would not let pass. Each fault is one that a handler of an operator has had somewhere.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from measured_files import QUICK, file
from onnx import numpy_helper

from tasks.contract.errors import AnswersDiffer
from tasks.data import DataConfig, Dataset, open_data
from tasks.quantization.fake_quantization import fake_quantized
from tasks.validate import MeasuredFile, validate

FLOAT, INTEGERS = "float32", "int8"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_data(DataConfig(reader="digits", limit=300, test=0.2))


def image(data: Dataset) -> Any:
    """Kernels that are no mirror images of themselves, a norm that does something, one more kernel in the end."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(5)
    inputs = tf.keras.Input(data.input.shape, name="image")
    x = layers.Rescaling(1 / 16, name="scale")(inputs)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.LayerNormalization(epsilon=0.01, name="norm")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="second")(x)
    return drawn(tf.keras.Model(inputs, layers.Dense(10, name="logits")(layers.Flatten(name="flat")(x)), name="image"))


def sequence(data: Dataset) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(6)
    inputs = tf.keras.Input(data.input.shape, name="image")
    x = layers.LSTM(6, name="lstm")(layers.Reshape(data.input.shape[:2], name="rows")(inputs))
    return drawn(tf.keras.Model(inputs, layers.Dense(10, name="logits")(x), name="sequence"))


def drawn(model: Any) -> Any:
    """Biases too: those that are zero would hide that they are lost."""
    draw = np.random.default_rng(0)
    model.set_weights([weight + draw.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def models(data):
    made = {"image": image(data), "sequence": sequence(data)}
    return {name: (model, fake_quantized(model, data.sample("train", 128)[0])) for name, model in made.items()}


@pytest.fixture(scope="module")
def written(models, data, tmp_path_factory) -> Callable[..., list[MeasuredFile]]:
    """The teacher's float file for a target, and one in integers where that is asked for; each written once."""
    made: dict[tuple[str, str, str], MeasuredFile] = {}

    def of(name: str, target: str, precision: str) -> list[MeasuredFile]:
        roles = {"teacher": FLOAT} if precision == FLOAT else {"teacher": FLOAT, "compressed": INTEGERS}
        for role, numbers in roles.items():
            if (name, target, numbers) not in made:
                model = models[name][numbers == INTEGERS]
                made[name, target, numbers] = file(role, target, numbers, model, data, tmp_path_factory.mktemp(name))
        return [made[name, target, numbers] for numbers in roles.values()]

    return of


def test_unbroken_they_are_let_pass(written, data):
    for target in ("onnxruntime", "litert", "savedmodel"):
        evidence = validate(written("image", target, INTEGERS), data, QUICK, seed=0)
        assert [one.role for one in evidence.files] == ["teacher", "compressed"]
    validate(written("sequence", "onnxruntime", FLOAT), data, QUICK, seed=0)


def in_onnx(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        proto = onnx.load(folder / "model.onnx")
        change(proto)
        onnx.save(proto, folder / "model.onnx")

    return mutate


def node(proto: onnx.ModelProto, layer: str, *kinds: str) -> onnx.NodeProto:
    return next(each for each in proto.graph.node if each.name.startswith(layer) and each.op_type in kinds)


def put(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(each for each in proto.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor)
    changed = np.array(change(values)).astype(values.dtype)
    assert changed.shape == values.shape
    assert not np.array_equal(changed, values), "nothing was broken"
    tensor.CopyFrom(numpy_helper.from_array(changed, name))


def weight(proto: onnx.ModelProto, layer: str, place: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """A constant of a layer's operator: of it, or of the DequantizeLinear that gives it."""
    name = node(proto, layer, "Conv", "Gemm", "MatMul", "LSTM").input[place]
    giver = next((each for each in proto.graph.node if name in each.output), None)
    put(proto, giver.input[0] if giver is not None else name, change)


def attribute(layer: str, kind: str, name: str, values: list[int]) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        operator = node(proto, layer, kind)
        kept = [each for each in operator.attribute if each.name != name]
        del operator.attribute[:]
        operator.attribute.extend([*kept, onnx.helper.make_attribute(name, values)])

    return change


def renamed(kind: str, into: str) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        operator = next(each for each in proto.graph.node if each.op_type == kind)
        operator.op_type = into

    return change


def recurrent(proto: onnx.ModelProto, place: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    put(proto, next(each for each in proto.graph.node if each.op_type == "LSTM").input[place], change)


def scale(proto: onnx.ModelProto, layer: str, factor: float) -> None:
    """The size of a kernel's steps."""
    name = node(proto, layer, "Conv", "Gemm").input[1]
    put(proto, next(each for each in proto.graph.node if name in each.output).input[1], lambda values: values * factor)


def last_zero(proto: onnx.ModelProto) -> None:
    """Of what is read, not of what was written: all answers are a step too low."""
    last = [each for each in proto.graph.node if each.op_type == "DequantizeLinear"][-1]
    value = next(numpy_helper.to_array(each) for each in proto.graph.initializer if each.name == last.input[2])
    last.input[2] = "off"
    proto.graph.initializer.append(numpy_helper.from_array(np.array(value + 1, value.dtype), "off"))


def gates(values: np.ndarray) -> np.ndarray:
    """Input and forget gate the other way round."""
    first, second, *rest = np.split(values, 4, axis=1)
    return np.concatenate([second, first, *rest], axis=1)


def in_tflite(change: Callable[[Any, Any], None]) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        from tensorflow.lite.python import schema_py_generated as schema

        from tasks.formats.tflite.graph import packed

        content = (folder / "model.tflite").read_bytes()
        model = schema.ModelT.InitFromPackedBuf(content)
        change(model, model.subgraphs[0])
        (folder / "model.tflite").write_bytes(packed(model, len(content)))

    return mutate


def tensor_of(model: Any, graph: Any, kind: str, place: int) -> Any:
    """A tensor that the first operator of a kind takes."""
    from tensorflow.lite.python import schema_py_generated as schema

    from tasks.formats.tflite.graph import codes

    code, numbers = getattr(schema.BuiltinOperator, kind), codes(model)
    operator = next(each for each in graph.operators if numbers[each.opcodeIndex] == code)
    return graph.tensors[operator.inputs[place] if place >= 0 else operator.outputs[0]]


def numbers_of(kind: str, place: int, dtype: type, change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    def mutate(model: Any, graph: Any) -> None:
        tensor = tensor_of(model, graph, kind, place)
        buffer = model.buffers[tensor.buffer]
        values = np.frombuffer(bytes(buffer.data), dtype).reshape(tensor.shape)
        changed = np.ascontiguousarray(change(values).astype(dtype))
        assert not np.array_equal(changed, values), "nothing was broken"
        buffer.data = np.frombuffer(changed.tobytes(), np.uint8)

    return mutate


def range_of(kind: str, place: int, factor: float) -> Callable[..., None]:
    """The size of an activation's steps, which the operators on both sides go by."""

    def mutate(model: Any, graph: Any) -> None:
        tensor = tensor_of(model, graph, kind, place)
        tensor.quantization.scale = (np.asarray(tensor.quantization.scale) * factor).astype(np.float32)

    return mutate


def in_savedmodel(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    """The writer takes another model than the one whose file it is to be."""

    def mutate(folder: Path, model: Any) -> None:
        import shutil

        from tasks.formats.savedmodel import files as savedmodel

        before = model.get_weights()
        values = [
            change(value) if variable.name.startswith(name) else value
            for variable, value in zip(model.weights, before, strict=True)
        ]
        assert any((new != old).any() for new, old in zip(values, before, strict=True)), "nothing was broken"
        model.set_weights(values)
        try:
            shutil.rmtree(folder)
            folder.mkdir()
            savedmodel.write(model, folder, "float32", classes=())
        finally:
            model.set_weights(before)

    return mutate


def swapped(values: np.ndarray) -> np.ndarray:
    """Height and width of a kernel the other way round."""
    places = [place for place, size in enumerate(values.shape) if size == 3]
    return np.swapaxes(values, *places[-2:])


MUTATIONS: dict[str, tuple[str, str, str, Callable[..., None]]] = {
    "kernel transposed": ("image", "onnxruntime", FLOAT, in_onnx(lambda p: weight(p, "first", 1, swapped))),
    "padding on one side": ("image", "onnxruntime", FLOAT, in_onnx(attribute("first", "Conv", "pads", [0, 0, 2, 2]))),
    "bias dropped": ("image", "onnxruntime", FLOAT, in_onnx(lambda p: weight(p, "second", 2, np.zeros_like))),
    "scale halved": ("image", "onnxruntime", FLOAT, in_onnx(lambda p: weight(p, "logits", 1, lambda v: v / 2))),
    "one channel alone": (
        "image",
        "onnxruntime",
        FLOAT,
        in_onnx(lambda p: weight(p, "first", 1, lambda v: v * (np.arange(len(v)) > 0).reshape(-1, 1, 1, 1))),
    ),
    "relu lost": ("image", "onnxruntime", FLOAT, in_onnx(renamed("Relu", "Identity"))),
    "mean for largest": ("image", "onnxruntime", FLOAT, in_onnx(renamed("MaxPool", "AveragePool"))),
    "channels in another order": (
        "image",
        "onnxruntime",
        FLOAT,
        in_onnx(lambda p: weight(p, "second", 1, lambda v: v[:, ::-1])),
    ),
    "gates swapped": ("sequence", "onnxruntime", FLOAT, in_onnx(lambda p: recurrent(p, 1, gates))),
    "recurrent bias dropped": ("sequence", "onnxruntime", FLOAT, in_onnx(lambda p: recurrent(p, 3, np.zeros_like))),
    "integer kernel transposed": ("image", "onnxruntime", INTEGERS, in_onnx(lambda p: weight(p, "second", 1, swapped))),
    "steps halved": ("image", "onnxruntime", INTEGERS, in_onnx(lambda p: scale(p, "second", 0.5))),
    "integer bias dropped": (
        "image",
        "onnxruntime",
        INTEGERS,
        in_onnx(lambda p: weight(p, "second", 2, np.zeros_like)),
    ),
    "zero off by one": ("image", "onnxruntime", INTEGERS, in_onnx(last_zero)),
    "LiteRT bias dropped": ("image", "litert", FLOAT, in_tflite(numbers_of("CONV_2D", 2, np.float32, np.zeros_like))),
    "LiteRT kernel transposed": ("image", "litert", FLOAT, in_tflite(numbers_of("CONV_2D", 1, np.float32, swapped))),
    "LiteRT scale halved": ("image", "litert", INTEGERS, in_tflite(range_of("DEPTHWISE_CONV_2D", -1, 0.5))),
    "LiteRT integer bias dropped": (
        "image",
        "litert",
        INTEGERS,
        in_tflite(numbers_of("FULLY_CONNECTED", 2, np.int32, np.zeros_like)),
    ),
    "SavedModel kernel transposed": ("image", "savedmodel", FLOAT, in_savedmodel("depthwise/depthwise", swapped)),
    "SavedModel bias dropped": ("image", "savedmodel", FLOAT, in_savedmodel("first/bias", np.zeros_like)),
    "SavedModel norm forgotten": ("image", "savedmodel", FLOAT, in_savedmodel("norm/gamma", np.ones_like)),
}


@pytest.mark.parametrize("fault", MUTATIONS)
def test_every_fault_is_refused(fault, written, models, data, tmp_path):
    import shutil

    name, target, precision, mutate = MUTATIONS[fault]
    *others, right = written(name, target, precision)
    folder = tmp_path / "broken"
    shutil.copytree(right.folder, folder)
    if target == "savedmodel":
        mutate(folder, models[name][0])
    else:
        mutate(folder)
    with pytest.raises(AnswersDiffer, match=f"{target} in {precision}: output"):
        validate([*others, MeasuredFile(**{**vars(right), "folder": folder})], data, QUICK, seed=0)
