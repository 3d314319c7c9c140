"""Sums of all pairs of 8-bit numbers, one operator a file, with scales that are drawn."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tasks.quantization.sums import Steps

Drawn = tuple[Steps, Steps, Steps]
ALL = np.arange(256, dtype=np.uint8)
PAIRS = np.repeat(ALL[:, None], 256, axis=1)  # what is added to each number, row by row


def drawn(draw: np.random.Generator) -> Drawn:
    """Two sides of unlike scale, and a range that holds most of their sums."""
    sizes = draw.uniform(0.01, 0.1, 2)
    total = sizes.sum() * draw.uniform(0.4, 1)
    zeros = [int(zero) for zero in draw.integers(0, 256, 3)]
    first, second, third = (Steps(np.float32(size), zero) for size, zero in zip([*sizes, total], zeros, strict=True))
    return first, second, third


def integers(first: Steps, second: Steps, output: Steps) -> ModelProto:
    """`PAIRS` and the constant of all numbers, added by ONNX Runtime's own operator."""
    constants = {"b": np.repeat(ALL[None], 256, axis=0)}
    for name, side in zip("xby", (first, second, output), strict=True):
        constants |= {f"{name}_size": side.size, f"{name}_zero": np.uint8(side.zero)}
    names = ["x", "x_size", "x_zero", "b", "b_size", "b_zero", "y_size", "y_zero"]
    return _model([helper.make_node("QLinearAdd", names, ["y"], name="sum/op", domain="com.microsoft")], constants)


def between(first: Steps, second: Steps, output: Steps, *, relu: bool = False) -> ModelProto:
    """The same in QDQ form, perhaps with a Relu, whose integers ONNX Runtime makes."""
    constants = {"b": np.repeat(ALL[None], 256, axis=0)}
    for name, side in zip("xby", (first, second, output), strict=True):
        constants |= {f"{name}_size": side.size, f"{name}_zero": np.uint8(side.zero)}
    nodes = [
        helper.make_node("DequantizeLinear", [name, f"{name}_size", f"{name}_zero"], [f"{name}_value"]) for name in "xb"
    ]
    nodes.append(helper.make_node("Add", ["x_value", "b_value"], ["sum"], name="sum/op"))
    nodes += [helper.make_node("Relu", ["sum"], ["clipped"])] * relu
    nodes.append(helper.make_node("QuantizeLinear", ["clipped" if relu else "sum", "y_size", "y_zero"], ["y"]))
    return _model(nodes, constants)


def _model(nodes: list, constants: dict[str, np.ndarray]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (256, 256))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (256, 256))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
