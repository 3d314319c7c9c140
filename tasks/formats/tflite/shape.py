"""A TFLite graph in float brought into the shape that its lowering to integers looks for, without changing a value.

- ranges are counted from -128, as LiteRT's integer kernels want it;
- what takes a quantized tensor's integers as they are, as the converter lets a FULLY_CONNECTED of an Einsum, takes
  floats;
- an addition of a bias, which the converter leaves behind what moves values, goes into the operator with the kernel;
- a range behind what moves values or clips them goes in front of it: rounding to steps and that may change places;
- clipping to a range's own ends goes.
"""

from typing import Any

import numpy as np

from tasks.formats.tflite.graph import TFLiteGraph, TFLiteSteps
from tasks.formats.tflite.operators import KERNELS, MOVING
from tasks.quantization.kernel_steps import KernelSteps
from tasks.quantization.stored_weights import counts, steps, stored

BY_CHANNEL = 5  # the version of DEQUANTIZE that knows steps for each channel
CLIPPING = ("RELU", "RELU6", "MAXIMUM", "MINIMUM")


def shape_up(graph: TFLiteGraph, kernels: KernelSteps) -> None:
    """Rewrites a graph in place; `kernels` are those that are to be in integers."""
    _count_from_below_zero(graph)
    _take_floats(graph)
    _join_biases(graph, kernels)
    _carry_up(graph)


def _count_from_below_zero(graph: TFLiteGraph) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    for operator in graph.operators:
        (*_, result) = operator.outputs or [-1]
        if graph.kind(operator) == "QUANTIZE" and graph.tensors[result].type == schema.TensorType.UINT8:
            steps = graph.steps(result)
            graph.tensors[result].type = schema.TensorType.INT8
            graph.count_in(result, np.array([steps.size]), np.array([steps.zero - 128]))


def _take_floats(graph: TFLiteGraph) -> None:
    """Puts a step to float between a range and whatever else takes its integers: no kernel takes them with floats."""
    quantized = {operator.outputs[0] for operator in graph.operators if graph.kind(operator) == "QUANTIZE"}
    floats: dict[int, int] = {}
    done: list[Any] = []
    for operator in graph.operators:
        for tensor in quantized.intersection(operator.inputs) if graph.kind(operator) != "DEQUANTIZE" else ():
            if tensor not in floats:
                floats[tensor] = graph.in_floats(tensor)
                done.append(graph.made("DEQUANTIZE", [tensor], [floats[tensor]]))
            operator.inputs = [floats[tensor] if other == tensor else other for other in operator.inputs]
        done.append(operator)
    graph.operators = done


def tables_in_integers(graph: TFLiteGraph) -> None:
    """An embedding's rows are looked up as integers, and only those that are found become floats."""
    done: list[Any] = []
    for operator in graph.operators:
        done.append(operator)
        table = graph.constant(operator.inputs[0]) if graph.kind(operator) == "GATHER" else None
        numbers = counts(table) if table is not None else None
        if table is None or numbers is None:
            continue
        (floats,), step = operator.outputs, TFLiteSteps(float(steps(table).item()), 0)
        name = graph.tensors[operator.inputs[0]].name
        operator.inputs[0] = graph.integers(numbers, np.array([step.size]), name)
        operator.outputs = [graph.like(floats, step)]
        graph.in_integers(operator)
        done.append(graph.made("DEQUANTIZE", operator.outputs, [floats]))
    graph.operators = done


# Which inputs of operators are weights that may be stored in 8 bits.
STORED = {"BATCH_MATMUL": (0, 1), "CONV_2D": (1,), "FULLY_CONNECTED": (1,)}


def store_weights(graph: TFLiteGraph) -> None:
    """Weights of operators that compute in float become floats when a file is opened."""
    floats: dict[tuple[int, ...], int] = {}
    made: list[Any] = []
    for operator in graph.operators:
        for place in STORED.get(graph.kind(operator), ()):
            tensor = operator.inputs[place]
            weight = graph.constant(tensor)
            if weight is None:
                continue
            same = (graph.tensors[tensor].buffer, *weight.shape)
            if same not in floats and (parts := stored(weight)) is not None:
                numbers, sizes, (axis,) = parts
                whole = graph.integers(numbers, sizes.reshape(-1), graph.tensors[tensor].name, axis=axis)
                floats[same] = graph.in_floats(whole)
                made.append(graph.made("DEQUANTIZE", [whole], [floats[same]]))
                graph.set_kind(made[-1], "DEQUANTIZE", BY_CHANNEL)
            if same in floats:
                operator.inputs[place] = floats[same]
    graph.operators = made + graph.operators


def rows_of(kind: str, kernel: np.ndarray) -> np.ndarray:
    """A kernel as TFLite has it as `(places * input channels, channels)`, in the order in which kernels take them."""
    return kernel.reshape(-1, kernel.shape[-1]) if kind == "DEPTHWISE_CONV_2D" else kernel.reshape(len(kernel), -1).T


def _join_biases(graph: TFLiteGraph, kernels: KernelSteps) -> None:
    takers = graph.takers()
    for operator in list(graph.operators):
        kind = graph.kind(operator)
        kernel = graph.constant(operator.inputs[KERNELS[kind][1]]) if kind in KERNELS else None
        if kernel is None or kernels.of(rows := rows_of(kind, kernel)) is None:
            continue
        place, count = KERNELS[kind][2], rows.shape[1]
        own = graph.constant(operator.inputs[place]) if len(operator.inputs) > place else None
        if operator.builtinOptions.fusedActivationFunction or (own is not None and own.any()):
            continue
        (tensor,) = operator.outputs
        while (after := _only(graph, takers, tensor)) is not None and _keeps_channels(graph, after, count):
            (tensor,) = after.outputs
        if after is None or graph.kind(after) != "ADD":
            continue
        others = [other for other in after.inputs if other != tensor]
        bias = graph.constant(others[0]) if len(others) == 1 else None
        if bias is None or bias.size != count or bias.shape[-1] != count:
            continue
        operator.inputs = [*operator.inputs[:place], _flat(graph, others[0], bias)]
        operator.builtinOptions.fusedActivationFunction = after.builtinOptions.fusedActivationFunction
        graph.operators = [other for other in graph.operators if other is not after]
        (result,) = after.outputs
        graph.outputs = [tensor if other == result else other for other in graph.outputs]
        for taker in takers[result]:
            taker.inputs = [tensor if other == result else other for other in taker.inputs]
        takers = graph.takers()


def _flat(graph: TFLiteGraph, tensor: int, bias: np.ndarray) -> int:
    """A bias' tensor with one axis."""
    if bias.ndim > 1:
        graph.tensors.append(graph.copied(tensor))
        tensor = len(graph.tensors) - 1
        graph.tensors[tensor].shape, graph.tensors[tensor].shapeSignature = np.array([bias.size], np.int32), None
    return tensor


def _only(graph: TFLiteGraph, takers: dict[int, list[Any]], tensor: int) -> Any | None:
    """The operator that alone takes a tensor, if the tensor does not leave the model."""
    return takers[tensor][0] if len(takers[tensor]) == 1 and tensor not in graph.outputs else None


def _keeps_channels(graph: TFLiteGraph, operator: Any, count: int) -> bool:
    """Whether an operator leaves the last axis as it is, and adds nothing to the others."""
    if graph.kind(operator) not in ("BATCH_TO_SPACE_ND", "EXPAND_DIMS", "RESHAPE", "SQUEEZE"):
        return False
    return all(shape[-1:] == [count] for shape in map(graph.shape, (operator.inputs[0], operator.outputs[0])))


def _carry_up(graph: TFLiteGraph) -> None:
    takers = graph.takers()
    dequantized = {operator.outputs[0] for operator in graph.operators if graph.kind(operator) == "DEQUANTIZE"}
    done: list[Any] = []
    for operator in reversed(graph.operators):
        place = _moved(graph, operator)
        after = [] if place is None else takers[operator.outputs[0]]
        steps = {graph.steps(taker.outputs[0]) for taker in after if graph.kind(taker) == "QUANTIZE"}
        if (
            place is None
            or len(steps) != 1
            or any(graph.kind(taker) != "QUANTIZE" for taker in after)
            or operator.outputs[0] in graph.outputs
        ):
            done.append(operator)
            continue
        tensor, (one,) = operator.inputs[place], steps
        if _is_idle(graph, operator, one):
            for taker in after:
                taker.inputs = [tensor]
            takers[tensor] = [taker for taker in takers[tensor] if taker is not operator] + after
            continue
        done.append(operator)
        if tensor in dequantized or len(takers[tensor]) > 1:
            continue
        integers = graph.like(tensor, one)
        graph.tensors.append(graph.copied(tensor))
        operator.inputs[place] = len(graph.tensors) - 1
        quantize = graph.made("QUANTIZE", [tensor], [integers])
        done += [graph.made("DEQUANTIZE", [integers], [operator.inputs[place]]), quantize]
        takers[tensor] = [quantize]
    graph.operators = done[::-1]


def _moved(graph: TFLiteGraph, operator: Any) -> int | None:
    """Which of its inputs an operator moves or clips; none if it does anything else."""
    kind = graph.kind(operator)
    if kind in ("RELU", "RELU6"):
        return 0
    if kind in ("MAXIMUM", "MINIMUM"):
        places = [place for place in (0, 1) if graph.constant(operator.inputs[place]) is None]
        return places[0] if len(places) == 1 else None
    return MOVING.get(kind) if len(operator.outputs) == 1 else None


def _is_idle(graph: TFLiteGraph, operator: Any, steps: TFLiteSteps) -> bool:
    """Whether an operator clips to ends that a range behind it is within."""
    kind = graph.kind(operator)
    least, most = -np.inf, np.inf
    if kind in ("RELU", "RELU6"):
        least, most = 0.0, 6.0 if kind == "RELU6" else np.inf
    elif kind in ("MAXIMUM", "MINIMUM"):
        values = next(value for value in map(graph.constant, operator.inputs) if value is not None)
        least, most = (float(values.max()), np.inf) if kind == "MAXIMUM" else (-np.inf, float(values.min()))
    else:
        return False
    ends = steps.nearest(np.array([least, most]))
    return bool(ends[0] == -128 and ends[1] == 127)
