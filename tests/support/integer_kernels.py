"""One operator a file: each integer kernel that ONNX Runtime has, with weights that saturate, just do not, or just do.

As a program, `python integer_kernels.py answers.npz`, it asks all of them, which is how another processor is asked.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
# Pairs whose like-signed weights sum to 128 at most, and whose neighbours in the next pair would sum to more.
INSIDE = np.array([(127, 1), (1, 127), (-127, -1), (-1, -127), (64, 64), (-128, 0), (127, -128), (-128, 127)], np.int8)
LIMIT, OVER, WILD = "at the limit", "over it by one", "wild"
NUMBERS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.int32: TensorProto.INT32}
Built = tuple[ModelProto, dict[str, np.ndarray]]
Build = Callable[[str], Built]


def rows(inner: int, channels: int, how: str, seed: int = 0) -> np.ndarray:
    """Weights `(inner, channels)` in the order in which kernels take them."""
    draw = np.random.default_rng(seed)
    if how == WILD:
        return draw.choice(np.array([-128, -127, -100, 100, 127], np.int8), (inner, channels))
    weights = INSIDE[draw.integers(0, len(INSIDE), (inner // 2 + 1, channels))].transpose(0, 2, 1).reshape(-1, channels)
    if how == OVER:
        place = 2 * draw.integers(inner // 2)
        weights[place : place + 2, draw.integers(channels)] = draw.choice([-1, 1]) * np.array([65, 64])
    return np.ascontiguousarray(weights[:inner])


def kernel(shape: tuple[int, ...], how: str) -> np.ndarray:
    """Those of a convolution, `(output channels, input channels of a group, …)`."""
    channels, inputs, *places = shape
    last = rows(int(np.prod(places)) * inputs, channels, how).T.reshape(channels, *places, inputs)
    return np.ascontiguousarray(np.moveaxis(last, -1, 1))


def unsigned(weights: np.ndarray) -> np.ndarray:
    """The same weights with 128 as their zero."""
    return (weights.astype(np.int16) + 128).astype(np.uint8)


def ends(shape: tuple[int, ...], kind: type = np.uint8) -> np.ndarray:
    """Activations at both ends of their range, mostly the upper."""
    limits = np.iinfo(kind)
    return np.random.default_rng(1).choice(np.array([limits.min, limits.max], kind), shape, p=[0.2, 0.8])


def model(nodes: list[Any], values: dict[str, np.ndarray], output: int, constants: dict[str, np.ndarray]) -> Built:
    """A file whose inputs are of the types and shapes of these values."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in values.items()
    ]
    graph = helper.make_graph(
        nodes,
        "kernel",
        inputs,
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), values


def scales(kind: type, step: float = 4000.0) -> dict[str, np.ndarray]:
    """What an integer operator takes beside its weights."""
    zero, one = np.array(0, kind), np.float32(1)
    return {"sx": one, "zx": zero, "sw": one, "zw": np.int8(0), "sy": np.float32(step), "zy": zero}


def linear(operator: str, weights: np.ndarray, x: np.ndarray, *, constant: bool = True, **attributes: Any) -> Built:
    """QLinearConv, QLinearMatMul or QGemm."""
    constants, values = scales(x.dtype.type), {"x": x}
    (constants if constant else values)["w"] = weights
    if weights.dtype == np.uint8:
        constants["zw"] = np.uint8(128)
    names = ["x", "sx", "zx", "w", "sw", "zw"] + [""] * (operator == "QGemm") + ["sy", "zy"]
    domain = MICROSOFT if operator == "QGemm" else ""
    node = helper.make_node(operator, names, ["y"], name="layer/op", domain=domain, **attributes)
    return model([node], values, NUMBERS[x.dtype.type], constants)


def qlinear_conv(shape: tuple[int, ...], group: int = 1, kind: type = np.uint8, *, to: Any = None) -> Build:
    def build(how: str) -> Built:
        weights = kernel(shape, how)
        x = ends((1, shape[1] * group, *[6] * (len(shape) - 2)), kind)
        return linear("QLinearConv", to(weights) if to else weights, x, group=group)

    return build


def integer(operator: str, x: np.ndarray, weights: np.ndarray, *, constant: bool = True) -> Built:
    """ConvInteger or MatMulInteger, which return their sums."""
    values, constants = {"x": x}, {}
    (constants if constant else values)["w"] = weights
    node = helper.make_node(operator, ["x", "w"], ["y"], name="layer/op")
    return model([node], values, TensorProto.INT32, constants)


def dynamic(how: str) -> Built:
    constants = {"w": rows(7, 9, how), "sw": np.float32(1)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "sw"], ["y"], name="layer/op", domain=MICROSOFT)
    return model([node], {"x": ends((8, 7)).astype(np.float32)}, TensorProto.FLOAT, constants)


def to_float(how: str) -> Built:
    constants = {"w": rows(7, 9, how), "s": np.float32(1)}
    node = helper.make_node("MatMulIntegerToFloat", ["x", "w", "s", "s"], ["y"], name="layer/op", domain=MICROSOFT)
    return model([node], {"x": ends((8, 7))}, TensorProto.FLOAT, constants)


def lstm(which: str) -> Build:
    """Both directions; `which` of its two kernels is as asked for, and the other at its limit."""

    def build(how: str) -> Built:
        taken, kept = (how, LIMIT) if which == "taken" else (LIMIT, how)
        constants = {
            "w": np.stack([rows(6, 20, LIMIT, 1), rows(6, 20, taken)]),
            "r": np.stack([rows(5, 20, LIMIT, 1), rows(5, 20, kept)]),
            "sw": np.full(2, 1e-3, np.float32),
            "zw": np.zeros(2, np.int8),
        }
        names = ["x", "w", "r", *[""] * 5, "sw", "zw", "sw", "zw"]
        settings = {"hidden_size": 5, "direction": "bidirectional", "domain": MICROSOFT}
        node = helper.make_node("DynamicQuantizeLSTM", names, ["y"], name="layer/op", **settings)
        return model([node], {"x": ends((4, 1, 6)).astype(np.float32)}, TensorProto.FLOAT, constants)

    return build


def between(
    operator: str,
    weights: np.ndarray,
    shape: tuple[int, ...],
    kind: type = np.uint8,
    *,
    axis: int = 0,
    behind: bool = True,
    **attributes: Any,
) -> Built:
    """A float operator between QuantizeLinear and DequantizeLinear, as our own files have it."""
    count = weights.shape[axis]
    constants = scales(kind) | {"w": weights, "sw": np.ones(count, np.float32), "zw": np.zeros(count, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=axis),
        helper.make_node(operator, ["xd", "wd"], ["sum" if behind else "y"], name="layer/op", **attributes),
    ]
    if behind:
        nodes.append(helper.make_node("QuantizeLinear", ["sum", "sy", "zy"], ["yq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]))
    return model(nodes, {"x": ends(shape, kind).astype(np.float32)}, TensorProto.FLOAT, constants)


def conv_between(shape: tuple[int, ...], group: int = 1, kind: type = np.uint8) -> Build:
    size = (1, shape[1] * group, *[6] * (len(shape) - 2))
    return lambda how: between("Conv", kernel(shape, how), size, kind, group=group)


def two_activations(kind: type, *, shared: bool) -> Build:
    """Weights that come in a run, for the product alone or for another taker too."""

    def build(how: str) -> Built:
        proto, values = between("MatMul", np.zeros((1, 1), np.int8), (3, 7), kind, axis=1)
        values = values | {"second": rows(7, 9, how).astype(np.float32)}
        nodes = [node for node in proto.graph.node if node.input[0] != "w"]
        nodes[:0] = [
            helper.make_node("QuantizeLinear", ["second", "sx", "zs"], ["wq"]),
            helper.make_node("DequantizeLinear", ["wq", "sx", "zs"], ["wd"]),
        ]
        if shared:
            nodes += [helper.make_node("ReduceSum", ["wd"], ["all"], keepdims=0)]
            nodes[-2].output[0] = "answer"
            nodes.append(helper.make_node("Add", ["answer", "all"], ["y"]))
        return model(nodes, values, TensorProto.FLOAT, scales(kind) | {"zs": np.int8(0)})

    return build


def moved(how: str) -> Built:
    """Weights that are transposed behind their DequantizeLinear."""
    proto, values = between("MatMul", np.ascontiguousarray(rows(7, 9, how).T), (3, 7))
    (product,) = [node for node in proto.graph.node if node.op_type == "MatMul"]
    product.input[1] = "wt"
    place = list(proto.graph.node).index(product)
    proto.graph.node.insert(place, helper.make_node("Transpose", ["wd"], ["wt"], perm=[1, 0]))
    return proto, values


# Kinds that can saturate, if their weights can.
SATURATING: dict[str, Build] = {
    "QLinearConv 4 to 16": qlinear_conv((16, 4, 3, 3)),
    "QLinearConv 3 to 5": qlinear_conv((5, 3, 3, 3)),
    "QLinearConv 1x1": qlinear_conv((5, 7, 1, 1)),
    "QLinearConv in groups": qlinear_conv((8, 3, 3, 3), 2),
    "QLinearConv in groups of four": qlinear_conv((32, 4, 3, 3), 2),
    "QLinearConv depthwise times two": qlinear_conv((10, 1, 3, 3), 5),
    "QLinearConv one channel to two": qlinear_conv((2, 1, 3, 3)),
    "QLinearConv 1-D": qlinear_conv((4, 3, 3)),
    "QLinearConv 3-D": qlinear_conv((4, 3, 2, 2, 2)),
    "QLinearMatMul": lambda how: linear("QLinearMatMul", rows(7, 9, how), ends((8, 7))),
    "QGemm": lambda how: linear("QGemm", rows(7, 9, how), ends((8, 7))),
    "QGemm transposed": lambda how: linear("QGemm", rows(7, 9, how).T.copy(), ends((8, 7)), transB=1),
    "MatMulInteger": lambda how: integer("MatMulInteger", ends((8, 7)), rows(7, 9, how)),
    "MatMulInteger one row": lambda how: integer("MatMulInteger", ends((1, 70)), rows(70, 40, how)),
    "MatMulInteger long": lambda how: integer("MatMulInteger", ends((5, 701)), rows(701, 9, how)),
    "MatMulInteger stacked": lambda how: integer(
        "MatMulInteger", ends((2, 4, 7)), np.stack([rows(7, 5, LIMIT), rows(7, 5, how)])
    ),
    "MatMulIntegerToFloat": to_float,
    "DynamicQuantizeMatMul": dynamic,
    "DynamicQuantizeLSTM, what it takes": lstm("taken"),
    "DynamicQuantizeLSTM, what it keeps": lstm("kept"),
    "Conv": conv_between((5, 3, 3, 3)),
    "Conv 4 to 16": conv_between((16, 4, 3, 3)),
    "Conv in groups": conv_between((8, 3, 3, 3), 2),
    "Conv depthwise times two": conv_between((10, 1, 3, 3), 5),
    "Conv 1-D": conv_between((5, 3, 3)),
    "Conv signed": conv_between((5, 3, 3, 3), kind=np.int8),
    "Gemm": lambda how: between("Gemm", rows(7, 9, how), (3, 7), axis=1),
    "Gemm transposed": lambda how: between("Gemm", rows(7, 9, how).T.copy(), (3, 7), transB=1),
    "Gemm to float": lambda how: between("Gemm", rows(7, 9, how), (3, 7), axis=1, behind=False),
    "MatMul": lambda how: between("MatMul", rows(7, 9, how), (3, 7), axis=1),
    "MatMul signed": lambda how: between("MatMul", rows(7, 9, how), (3, 7), np.int8, axis=1),
    "MatMul to float": lambda how: between("MatMul", rows(7, 9, how), (3, 7), axis=1, behind=False),
}
# Kinds whose weights are not known, so that they may saturate whatever they are.
UNKNOWN: dict[str, Build] = {
    "QLinearMatMul in a run": lambda how: linear("QLinearMatMul", rows(7, 9, how), ends((8, 7)), constant=False),
    "MatMulInteger in a run": lambda how: integer("MatMulInteger", ends((8, 7)), rows(7, 9, how), constant=False),
    "MatMul of two, shared": two_activations(np.uint8, shared=True),
    "MatMul moved": moved,
}
# Kinds that are exact whatever their weights are.
EXACT: dict[str, Build] = {
    "QLinearConv depthwise 16": qlinear_conv((16, 1, 3, 3), 16),
    "QLinearConv depthwise 5": qlinear_conv((5, 1, 3, 3), 5),
    "QLinearConv one channel to one": qlinear_conv((1, 1, 3, 3)),
    "QLinearConv unsigned": qlinear_conv((5, 3, 3, 3), to=unsigned),
    "QLinearConv signed by signed": qlinear_conv((16, 4, 3, 3), kind=np.int8),
    "QLinearMatMul signed by signed": lambda how: linear("QLinearMatMul", rows(7, 9, how), ends((8, 7), np.int8)),
    "QGemm signed by signed": lambda how: linear("QGemm", rows(7, 9, how), ends((8, 7), np.int8)),
    "MatMulInteger signed by signed": lambda how: integer("MatMulInteger", ends((8, 7), np.int8), rows(7, 9, how)),
    "MatMulInteger unsigned": lambda how: integer("MatMulInteger", ends((8, 7)), unsigned(rows(7, 9, how))),
    "ConvInteger": lambda how: integer("ConvInteger", ends((1, 3, 6, 6)), kernel((5, 3, 3, 3), how)),
    "Conv depthwise": conv_between((5, 1, 3, 3), 5),
    "ConvTranspose": lambda how: between("ConvTranspose", kernel((3, 5, 3, 3), how), (1, 3, 6, 6), axis=1),
    "MatMul of two": two_activations(np.uint8, shared=False),
    "MatMul of two, signed": two_activations(np.int8, shared=False),
}


def push_over(file: Path, layer: str) -> None:
    """Give a layer of one of our own files, a Gemm, two weights that meet and sum to 129."""
    import onnx

    proto = onnx.load(file)
    givers = {name: node for node in proto.graph.node for name in node.output}
    (gemm,) = [node for node in proto.graph.node if node.name.split("/")[0] == layer and node.op_type == "Gemm"]
    (stored,) = [each for each in proto.graph.initializer if each.name == givers[gemm.input[1]].input[0]]
    steps = numpy_helper.to_array(stored).copy()
    steps[:2, 0] = 65, 64
    stored.CopyFrom(numpy_helper.from_array(steps, stored.name))
    file.write_bytes(proto.SerializeToString(deterministic=True))


def main(file: str) -> None:
    """Ask every kind with weights at the limit and wild ones, as it is and, where it can saturate, as unsigned ones."""
    import onnxruntime

    from tasks.formats.onnx.saturation import unsigned as mended

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    place, answers = Path(file).with_suffix(".onnx"), {}
    for kind, build in (SATURATING | UNKNOWN | EXACT).items():
        for how in (LIMIT, WILD):
            proto, values = build(how)
            place.write_bytes(proto.SerializeToString())
            for way, content in (("as it is", place.read_bytes()), ("unsigned", mended(place))):
                if content is not None:
                    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
                    (answers[f"{kind}|{how}|{way}"],) = session.run(None, values)
    np.savez(file, **answers)


if __name__ == "__main__":
    main(sys.argv[1])
