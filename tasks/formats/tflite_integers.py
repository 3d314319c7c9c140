"""What the TFLite converter makes of a fake-quantized model, put right: steps of kernels and biases, the last softmax.

The converter finds each channel's step anew, as the 127th part of its largest weight. Fake quantization holds kernels
to steps that may be larger (`pairs`), so that what the converter writes lies beside them, by less than half a step: the
same integers as in every other file are found again, and take their place.
"""

import copy
from collections import Counter
from typing import Any

import numpy as np

from tasks.errors import ConversionError
from tasks.kernel_steps import KernelSteps

NEAR = 0.501  # of a step of the converter's: it rounds, in float32


def put_right(content: bytes, kernels: KernelSteps | None, *, float_softmax: bool) -> bytes:
    """A file with the steps that fake quantization held kernels to.

    Args:
        content: what the converter made.
        kernels: the model's, with their steps; none leaves the converter's own, which the runtime is exact with too.
        float_softmax: whether a softmax at the end is computed behind the step to float instead of before it.

    Raises:
        ConversionError: a kernel in integers is none of the model's.

    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    if kernels is not None:
        for graph in model.subgraphs:
            _hold_kernels(model, graph, kernels)
    if float_softmax:
        _soften_last(model)
    return packed(model, len(content))


def packed(model: Any, size: int) -> bytes:
    """A `ModelT` of the schema as a file, of about so many bytes."""
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def codes(model: Any) -> list[int]:
    """Each operator code's number, of a `ModelT`; older files have small ones in a field of their own."""
    return [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]


def _hold_kernels(model: Any, graph: Any, kernels: KernelSteps) -> None:
    """Gives each operator with an 8-bit kernel the model's own integers and steps, and its bias in their unit."""
    from tensorflow.lite.python import schema_py_generated as schema

    operators = schema.BuiltinOperator
    # where what is taken, the kernel and the bias are
    places = {
        operators.CONV_2D: (0, 1, 2),
        operators.DEPTHWISE_CONV_2D: (0, 1, 2),
        operators.FULLY_CONNECTED: (0, 1, 2),
        operators.TRANSPOSE_CONV: (2, 1, 3),
    }
    numbers = codes(model)
    users = Counter(int(index) for operator in graph.operators for index in operator.inputs)
    done: dict[int, np.ndarray] = {}
    for operator in graph.operators:
        code = numbers[operator.opcodeIndex]
        if code not in places:
            continue
        taken, kernel, bias = places[code]
        tensor = graph.tensors[operator.inputs[kernel]]
        if tensor.type != schema.TensorType.INT8 or graph.tensors[operator.inputs[taken]].quantization.scale is None:
            continue
        if operator.inputs[kernel] not in done:
            done[operator.inputs[kernel]] = _hold_kernel(model, tensor, code == operators.DEPTHWISE_CONV_2D, kernels)
        if bias < len(operator.inputs) and operator.inputs[bias] >= 0:
            unit = float(graph.tensors[operator.inputs[taken]].quantization.scale[0])
            if users[operator.inputs[bias]] > 1:  # equal biases share one tensor, and units may differ
                users[operator.inputs[bias]] -= 1
                graph.tensors.append(copy.deepcopy(graph.tensors[operator.inputs[bias]]))
                operator.inputs = np.array(operator.inputs)
                operator.inputs[bias] = len(graph.tensors) - 1
            _hold_bias(model, graph.tensors[operator.inputs[bias]], unit * done[operator.inputs[kernel]])


def _hold_kernel(model: Any, tensor: Any, depthwise: bool, kernels: KernelSteps) -> np.ndarray:
    """Puts the model's integers into a kernel's tensor; gives the size of their steps, `(channels,)`."""
    shape = tuple(tensor.shape)
    count = shape[-1] if depthwise else shape[0]
    numbers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8)
    numbers = numbers.reshape(-1, count) if depthwise else numbers.reshape(count, -1).T
    steps = np.broadcast_to(np.asarray(tensor.quantization.scale, np.float32), count)
    found = kernels.near(numbers * steps, NEAR * steps)
    if found is None:
        raise ConversionError(
            f"litert: the kernel '{tensor.name.decode()}' was written in integers that are not the model's: name "
            "another target, or leave its layer in float (quantize.method: mixed)"
        )
    rows, steps = found
    rows = np.rint(rows / np.where(rows.any(axis=0), steps, 1)).astype(np.int8)
    _fill(model, tensor, rows if depthwise else rows.T)
    tensor.quantization.scale = steps.astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(count, np.int64)
    tensor.quantization.quantizedDimension = len(shape) - 1 if depthwise else 0
    tensor.quantization.min = tensor.quantization.max = None
    return steps


def _hold_bias(model: Any, tensor: Any, units: np.ndarray) -> None:
    """Puts a bias into other units, `(channels,)`; whole in them, because fake quantization has settled it so."""
    numbers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int32)
    values = numbers * np.asarray(tensor.quantization.scale, np.float64)
    tensor.quantization.scale = units.astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(units.size, np.int64)
    _fill(model, tensor, np.rint(values / units).astype(np.int32))


def _fill(model: Any, tensor: Any, numbers: np.ndarray) -> None:
    """Gives a tensor other numbers; those that it had leave the file, unless another tensor has them too."""
    from tensorflow.lite.python import schema_py_generated as schema

    if sum(other.buffer == tensor.buffer for graph in model.subgraphs for other in graph.tensors) > 1:
        tensor.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(numbers).tobytes(), np.uint8)


def _soften_last(model: Any) -> None:
    """Puts the last softmax behind the step to float instead of before it.

    The converter gives probabilities in steps of 1/256: with many classes, or unsure ones, the largest two are often
    the same. What is computed in float instead is a few exponentials.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph, numbers = model.subgraphs[0], codes(model)
    if len(graph.operators) < 2:
        return
    softmax, dequantize = graph.operators[-2:]
    if (numbers[softmax.opcodeIndex], numbers[dequantize.opcodeIndex]) != (
        schema.BuiltinOperator.SOFTMAX,
        schema.BuiltinOperator.DEQUANTIZE,
    ) or list(softmax.outputs) != list(dequantize.inputs):
        return
    between = graph.tensors[softmax.outputs[0]]
    between.type, between.quantization = schema.TensorType.FLOAT32, None
    softmax.inputs, dequantize.inputs = dequantize.inputs, softmax.inputs
    softmax.outputs, dequantize.outputs = dequantize.outputs, softmax.outputs
    graph.operators[-2:] = [dequantize, softmax]
