"""Sums of two tensors in an ONNX file that ONNX Runtime's kernels round apart on different processors: see `sums`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasks.formats.onnx.graph import array, constant_array, only_consumer
from tasks.formats.tensorrt.rules import range_of
from tasks.quantization.sums import Steps, agreed, apart

if TYPE_CHECKING:
    import onnx_ir as ir

BYTES = (np.int8, np.uint8)  # sums of 16 bits are computed alike everywhere


class Sum(NamedTuple):
    """One that is computed in integers.

    layer: its name in Keras. size: the constant that is the size of its steps. lowest: the smallest number.
    """

    layer: str
    size: "ir.Value"
    first: Steps
    second: Steps
    output: Steps
    lowest: int


def rounded_apart(model: "ir.Model") -> tuple[str, ...]:
    """The layers of sums that are, by the names that they have in Keras, in the file's order."""
    sums = _sums(model.graph)
    return tuple(dict.fromkeys(each.layer for each in sums if apart(each.first, each.second, each.output, each.lowest)))


def settle_sums(model: "ir.Model") -> None:
    """Make the scales of sums a hair smaller where they would be rounded apart, in place."""
    import onnx_ir as ir

    for each in _sums(model.graph):  # what is added before what it is added to: it meets the scale that was changed

        def scaled(factor: float, output: Steps = each.output) -> Steps:
            return Steps(np.float32(output.size * factor), output.zero)

        factor = agreed(each.first, each.second, scaled, each.lowest)
        size = constant_array(each.size)
        each.size.const_value = ir.tensor(np.full(size.shape, scaled(factor).size, size.dtype))


def _sums(graph: "ir.Graph") -> Iterator[Sum]:
    for node in graph:
        parameters: list[Sequence[ir.Value | None]] = []  # the scale and zero point of each side and of the output
        if node.op_type == "QLinearAdd":
            parameters = [node.inputs[place : place + 2] for place in (1, 4, 6)]
        elif node.op_type == "Add":
            sides = [*map(range_of, node.inputs), _quantizes(node)]
            parameters = [side.inputs[1:3] for side in sides if side is not None]
        numbers = [_numbers(*values) for values in parameters]
        if len(numbers) == 3 and None not in numbers:
            (first, _), (second, _), (output, kind) = numbers  # type: ignore[misc]
            yield Sum(node.name.split("/")[0], parameters[2][0], first, second, output, int(np.iinfo(kind).min))


def _numbers(size: "ir.Value | None", zero: "ir.Value | None" = None) -> tuple[Steps, np.dtype] | None:
    """A scale and a zero point, and the type of the numbers; none if they are not known, are several or of 16 bits."""
    steps = array(size)
    number = np.uint8(0) if zero is None else array(zero)
    if steps is None or number is None or steps.size != 1 or number.size != 1 or number.dtype not in BYTES:
        return None
    return Steps(np.float32(steps.item()), int(number.item())), number.dtype


def _quantizes(node: "ir.Node") -> "ir.Node | None":
    """The QuantizeLinear that alone takes an operator's output, after a Relu at most, which its range then does."""
    after = only_consumer(node.outputs[0])
    if after is not None and after.op_type == "Relu":
        after = only_consumer(after.outputs[0])
    return after if after is not None and after.op_type == "QuantizeLinear" else None
