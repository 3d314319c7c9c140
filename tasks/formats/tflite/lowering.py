"""From fake quantization to a file that LiteRT runs in integers, with the ranges that the model was quantized with.

Of a frozen fake-quantized model TensorFlow's converter makes a file in float with a QUANTIZE and a DEQUANTIZE for each
range. It would go on to integers by itself, but then operators whose input and output have to be counted in the same
steps get the range of their output, and what comes in wider is cut off; it ranges layers that are to stay in float; and
it computes the steps of kernels anew. `lower` takes the operators one by one instead:

- what moves values of a quantized tensor carries its range on;
- what joins quantized tensors gets them requantized to the range of its output, and what may have its results in any
  steps has them in the range behind it;
- what averages keeps the range of what it averages, so that nothing is cut off, and is requantized behind it; an
  average pooling without padding becomes a depthwise convolution, which rounds once;
- kernels become signed 8-bit numbers in exactly the steps that they were quantized in, biases 32-bit numbers.

Everything else stays as it is, in float. So does what integers would make too coarse.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.formats.tflite.graph import TFLiteGraph, TFLiteSteps
from tasks.formats.tflite.operators import BETWEEN, FREE, JOINING, KERNELS, MOVING, PRESCRIBED
from tasks.formats.tflite.shape import rows_of, shape_up, store_weights, tables_in_integers
from tasks.keras_graph.rebuild import RANGE
from tasks.quantization.kernel_steps import KernelSteps

COARSE = 2  # how many steps of a range one of the range before it may be: what was rounded to it is one off at most


def lower(content: bytes, kernels: KernelSteps, *, integer_ends: bool) -> bytes:
    """A file in float with ranges as one in integers.

    Args:
        content: what the converter made of a frozen fake-quantized model.
        kernels: the model's, with their steps.
        integer_ends: inputs and outputs are int8 too.

    Raises:
        ConversionError: an input or output has no range, and was to be in integers.

    """
    graph = TFLiteGraph(content)
    shape_up(graph, kernels)
    lowering = _Lowering(graph, kernels, integer_ends=integer_ends)
    lowering.run()
    if integer_ends:
        lowering.make_ends_integer()
    for each in (graph, *graph.inner):
        tables_in_integers(each)
        store_weights(each)
    return graph.finished(len(content))


class _Lowering:
    """One pass over a graph's operators, in running order."""

    def __init__(self, graph: TFLiteGraph, kernels: KernelSteps, *, integer_ends: bool) -> None:
        self.graph = graph
        self.kernels = kernels
        self.integer_ends = integer_ends
        self.takers = graph.takers()
        self.expected = {
            operator.outputs[0]: graph.steps(operator.inputs[0])
            for operator in graph.operators
            if graph.kind(operator) == "DEQUANTIZE" and graph.is_integer(operator.inputs[0])
        }
        self.quantized: dict[int, int] = {}  # tensors in float, and the integers that say the same
        self.same: dict[int, int] = {}  # integers that others stand for
        self.constants: dict[tuple[Any, ...], int] = {}
        self.done: list[Any] = []
        rules: tuple[tuple[Any, Callable[[Any], bool]], ...] = (
            (MOVING, self._move),
            (JOINING, self._join),
            (BETWEEN, self._average),
            (KERNELS, self._multiply),
            (FREE, self._compute),
            (PRESCRIBED, self._prescribed),
            (("QUANTIZE",), self._quantize),
            (("DEQUANTIZE",), self._dequantize),
            (("SHAPE",), self._shape),
        )
        self.rules = {kind: rule for kinds, rule in rules for kind in kinds}

    def run(self) -> None:
        """Puts integers where they can be; an operator that no rule takes stays as it is."""
        for operator in self.graph.operators:
            rule = self.rules.get(self.graph.kind(operator))
            if rule is None or not rule(operator):
                self.done.append(operator)
        self.graph.operators = self.done
        check(self.graph, self.expected, self.quantized)

    def _after(self, operator: Any) -> TFLiteSteps | None:
        """The steps that all that take an operator's output quantize it in; none if they do not."""
        (output,) = operator.outputs
        takers = self.takers[output]
        if not takers or output in self.graph.outputs or any(self.graph.kind(taker) != "QUANTIZE" for taker in takers):
            return None
        steps = {self.graph.steps(taker.outputs[0]) for taker in takers}
        return steps.pop() if len(steps) == 1 else None

    def _give_integers(self, operator: Any, *steps: TFLiteSteps) -> bool:
        """Makes an operator's outputs integers, with a step to float behind each for who takes floats."""
        floats = operator.outputs
        operator.outputs = [self.graph.like(tensor, one) for tensor, one in zip(floats, steps, strict=True)]
        self.graph.in_integers(operator)
        self.done.append(operator)
        for tensor, integers in zip(floats, operator.outputs, strict=True):
            self.quantized[tensor] = integers
            self.done.append(self.graph.made("DEQUANTIZE", [integers], [tensor]))
        return True

    def _quantize(self, operator: Any) -> bool:
        """A range on integers: nothing if they have it already, else from steps to steps."""
        (tensor,), (result,) = operator.inputs, operator.outputs
        if tensor in self.quantized and self.graph.steps(self.quantized[tensor]) == self.graph.steps(result):
            self.same[result] = self.quantized[tensor]
            return True
        operator.inputs = [self.quantized.get(tensor, tensor)]
        return False

    def _dequantize(self, operator: Any) -> bool:
        (source,), (result,) = operator.inputs, operator.outputs
        integers = self.same.get(source, source)
        operator.inputs, self.quantized[result] = [integers], integers
        return False

    def _shape(self, operator: Any) -> bool:
        operator.inputs = [self.quantized.get(tensor, tensor) for tensor in operator.inputs]
        return False

    def _move(self, operator: Any) -> bool:
        place = MOVING[self.graph.kind(operator)]
        if (integers := self.quantized.get(operator.inputs[place])) is None:
            return False
        operator.inputs[place] = integers
        return self._give_integers(operator, *[self.graph.steps(integers)] * len(operator.outputs))

    def _join(self, operator: Any) -> bool:
        first = JOINING[self.graph.kind(operator)]
        joined = operator.inputs[first:]
        quantized = [self.quantized[tensor] for tensor in joined if tensor in self.quantized]
        values = [self.graph.constant(tensor) for tensor in joined if tensor not in self.quantized]
        if not quantized or any(value is None for value in values):
            return False
        steps = self._after(operator)
        if steps is None:
            steps = self.graph.steps(quantized[0])
            if values or any(self.graph.steps(integers) != steps for integers in quantized):
                return False
        operator.inputs = operator.inputs[:first] + [self._in_steps(tensor, steps) for tensor in joined]
        return self._give_integers(operator, steps)

    def _in_steps(self, tensor: int, steps: TFLiteSteps) -> int:
        """A quantized tensor or a constant in these steps."""
        integers = self.quantized.get(tensor)
        if integers is None:
            return self._constant(tensor, steps)
        if self.graph.steps(integers) == steps:
            return integers
        made = self.graph.like(integers, steps)
        self.done.append(self.graph.made("QUANTIZE", [integers], [made]))
        return made

    def _constant(self, tensor: int, steps: TFLiteSteps) -> int:
        if (key := (tensor, steps)) not in self.constants:
            values = self.graph.constant(tensor)
            assert values is not None
            self.constants[key] = self.graph.integers(
                steps.nearest(values), np.array([steps.size]), self.graph.tensors[tensor].name, zero=steps.zero
            )
        return self.constants[key]

    def _average(self, operator: Any) -> bool:
        integers, steps = self.quantized.get(operator.inputs[0]), self._after(operator)
        if integers is None or steps is None:
            return False
        own = self.graph.steps(integers)
        if own != steps and self.graph.kind(operator) == "AVERAGE_POOL_2D" and not _is_padded(self.graph, operator):
            self._pool_as_kernel(operator, integers)
            return self._give_integers(operator, steps)
        if own.size > COARSE * steps.size:
            return False
        operator.inputs[0] = integers
        return self._give_integers(operator, own)

    def _pool_as_kernel(self, operator: Any, integers: int) -> None:
        """An average pooling as a depthwise convolution with ones, in steps of one part of the window."""
        from tensorflow.lite.python import schema_py_generated as schema

        pooling, name = operator.builtinOptions, self.graph.tensors[operator.outputs[0]].name
        size, channels = pooling.filterHeight * pooling.filterWidth, self.graph.shape(operator.inputs[0])[-1]
        ones = np.ones((1, pooling.filterHeight, pooling.filterWidth, channels), np.int8)
        part = np.array([1 / size], np.float32)
        unit = np.float32(self.graph.steps(integers).size) * part
        operator.inputs = [
            integers,
            self.graph.integers(ones, part, name),
            self.graph.integers(np.zeros(channels, np.int32), unit, name),
        ]
        options = schema.DepthwiseConv2DOptionsT()
        options.padding, options.strideH, options.strideW = pooling.padding, pooling.strideH, pooling.strideW
        options.depthMultiplier = options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = pooling.fusedActivationFunction
        operator.builtinOptions = options
        operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
        self.graph.set_kind(operator, "DEPTHWISE_CONV_2D", 3)

    def _multiply(self, operator: Any) -> bool:
        kind = self.graph.kind(operator)
        taken, kernel, bias = KERNELS[kind]
        integers, steps = self.quantized.get(operator.inputs[taken]), self._after(operator)
        values = self.graph.constant(operator.inputs[kernel])
        if integers is None or steps is None or values is None:
            return False
        rows = rows_of(kind, values)
        sizes = self.kernels.of(rows)
        if sizes is None:  # a layer that is to stay in float, between quantized tensors
            return False
        unit = self.graph.steps(integers).size
        counts = self.graph.constant(operator.inputs[bias]) if len(operator.inputs) > bias else None
        least = 0.0 if counts is None else np.abs(counts) / (unit * 2.0**30)  # a bias has 32 bits
        sizes = np.maximum(np.where(rows.any(axis=0), sizes, 0.0), least).astype(np.float32)
        sizes = np.where(sizes > 0, sizes, np.float32(1))
        axis = values.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        key = (operator.inputs[kernel], sizes.tobytes())
        if key not in self.constants:
            numbers = np.rint(values / sizes.reshape(shape)).astype(np.int8)
            name = self.graph.tensors[operator.inputs[kernel]].name
            self.constants[key] = self.graph.integers(numbers, sizes, name, axis=axis)
        operator.inputs[taken], operator.inputs[kernel] = integers, self.constants[key]
        if counts is not None:
            units = (np.float32(unit) * sizes).astype(np.float32)
            key = (operator.inputs[bias], units.tobytes())
            if key not in self.constants:
                numbers = np.rint(counts / units.astype(np.float64)).astype(np.int32)
                name = self.graph.tensors[operator.inputs[bias]].name
                self.constants[key] = self.graph.integers(numbers, units, name)
            operator.inputs[bias] = self.constants[key]
        return self._give_integers(operator, steps)

    def _compute(self, operator: Any) -> bool:
        kind = self.graph.kind(operator)
        sides = operator.inputs[: FREE[kind]]
        quantized = [self.quantized[tensor] for tensor in sides if tensor in self.quantized]
        if not quantized:
            return False
        steps = self._after(operator)
        own = self.graph.steps(quantized[0])
        constants: dict[int, TFLiteSteps] = {}
        for tensor in sides:
            if tensor in self.quantized:
                continue
            values = self.graph.constant(tensor)
            if values is None or kind not in ("ADD", "SUB", "MUL"):
                return False
            constants[tensor] = TFLiteSteps(float(np.float32(np.abs(values).max() / 127)) or 1.0, 0)
            if steps is None and kind == "MUL" and values.size == 1 and values.min() > 0:
                steps = TFLiteSteps(float(np.float32(own.size * values.item())), own.zero)  # the same integers
            most = max(127 - own.zero, own.zero + 128) * own.size if kind == "MUL" else 1.0
            if steps is None or (np.ptp(values) > 0 and constants[tensor].size * most > steps.size):
                return False  # half a step of a constant's would be more than half a step of the result's
        if steps is None:
            return False
        operator.inputs[: FREE[kind]] = [
            self._constant(tensor, constants[tensor]) if tensor in constants else self.quantized[tensor]
            for tensor in sides
        ]
        return self._give_integers(operator, steps)

    def _prescribed(self, operator: Any) -> bool:
        integers = self.quantized.get(operator.inputs[0])
        if integers is None:
            return False
        prescribed, (result,) = TFLiteSteps(*PRESCRIBED[self.graph.kind(operator)]), operator.outputs
        steps = self._after(operator)
        if steps is not None:
            if steps.zero != prescribed.zero or not np.isclose(steps.size, prescribed.size, rtol=1e-5):
                return False
        elif result in self.graph.outputs:
            if not self.integer_ends:
                return False
        elif not all(self._is_gated(taker, result) for taker in self.takers[result]):
            return False
        operator.inputs = [integers]
        return self._give_integers(operator, prescribed)

    def _is_gated(self, operator: Any, gate: int) -> bool:
        """Whether an operator multiplies a gate's output by quantized tensors and is quantized too: as in a swish."""
        return (
            self.graph.kind(operator) == "MUL"
            and all(tensor == gate or tensor in self.quantized for tensor in operator.inputs)
            and self._after(operator) is not None
        )

    def make_ends_integer(self) -> None:
        """Gives the file integers as inputs and outputs instead of steps from and to float."""
        graph, ends = self.graph, dict[int, int]()
        for tensor in graph.inputs:
            takers = [operator for operator in graph.operators if tensor in operator.inputs]
            if {graph.kind(operator) for operator in takers} != {"QUANTIZE"}:
                raise _no_range(graph, tensor, "input")
            ends[tensor] = takers[0].outputs[0]
            graph.operators = [operator for operator in graph.operators if operator is not takers[0]]
            for other in takers[1:]:
                other.inputs = [ends[tensor]]
        for tensor in graph.outputs:
            if tensor not in self.quantized:
                raise _no_range(graph, tensor, "output")
            ends[tensor] = self.quantized[tensor]
        graph.inputs = [ends[tensor] for tensor in graph.inputs]
        graph.outputs = [ends[tensor] for tensor in graph.outputs]
        for signature in graph.model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = ends[int(entry.tensorIndex)]


def _no_range(graph: TFLiteGraph, tensor: int, what: str) -> ConversionError:
    return ConversionError(
        f"litert: the {what} '{graph.layer(tensor)}' is in float and has no range, so it cannot be in "
        "integers: leave convert.litert_io at float32"
    )


def _is_padded(graph: TFLiteGraph, operator: Any) -> bool:
    """Whether a pooling's windows reach over the image's edges, where fewer values are averaged."""
    from tensorflow.lite.python import schema_py_generated as schema

    pooling, shape = operator.builtinOptions, graph.shape(operator.inputs[0])
    if pooling.padding == schema.Padding.VALID:
        return False
    windows = ((pooling.filterHeight, pooling.strideH), (pooling.filterWidth, pooling.strideW))
    return any(
        length < 0 or (-(-length // stride) - 1) * stride + size > length
        for length, (size, stride) in zip(shape[1:3], windows, strict=True)
    )


def check(graph: TFLiteGraph, expected: dict[int, TFLiteSteps], quantized: dict[int, int]) -> None:
    """Check that every tensor has the range that it was quantized with, and that operators of one range have one.

    Args:
        graph: lowered.
        expected: tensors in float of the graph as it was, and the steps that they were quantized in.
        quantized: the integers that stand for each.

    Raises:
        ConversionError: values would be cut off, or read in other steps than they were written in.

    """
    for tensor, steps in expected.items():
        if graph.steps(quantized[tensor]) != steps:
            raise _cut_off(graph, tensor)
    for operator in graph.operators:
        kind = graph.kind(operator)
        if kind in JOINING:
            alike = operator.inputs[JOINING[kind] :]
        elif kind in MOVING or kind in BETWEEN:
            alike = [operator.inputs[MOVING.get(kind, 0)]]
        else:
            continue
        counted = {graph.steps(one) if graph.is_integer(one) else None for one in (*alike, *operator.outputs)}
        if len(counted) > 1:
            raise _cut_off(graph, operator.outputs[0])


def _cut_off(graph: TFLiteGraph, tensor: int) -> ConversionError:
    layer = graph.layer(tensor).removesuffix(RANGE)
    return ConversionError(
        f"litert: the file would not keep the range of layer '{layer}': name another target, or leave "
        "the layer in float (quantize.method: mixed)"
    )
