"""Sums of two tensors in an ONNX file that ONNX Runtime's kernels round apart on different processors: see `sums`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasks.formats.tensorrt.rules import Wiring
from tasks.quantization.sums import Steps, agreed, apart

if TYPE_CHECKING:
    import onnx

BYTES = (np.int8, np.uint8)  # sums of 16 bits are computed alike everywhere


class Sum(NamedTuple):
    """One that is computed in integers.

    layer: its name in Keras. size: the name of the constant that is the size of its steps. lowest: the smallest number.
    """

    layer: str
    size: str
    first: Steps
    second: Steps
    output: Steps
    lowest: int


def rounded_apart(model: "onnx.ModelProto") -> tuple[str, ...]:
    """The layers of sums that are, by the names that they have in Keras, in the file's order."""
    sums = _sums(Wiring(model))
    return tuple(dict.fromkeys(each.layer for each in sums if apart(each.first, each.second, each.output, each.lowest)))


def settle_sums(model: "onnx.ModelProto") -> None:
    """Make the scales of sums a hair smaller where they would be rounded apart, in place."""
    from onnx import numpy_helper

    wiring = Wiring(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for each in _sums(wiring):  # what is added before what it is added to: it meets the scale that was changed
        size = wiring.constants[each.size]

        def scaled(factor: float, output: Steps = each.output) -> Steps:
            return Steps(np.float32(output.size * factor), output.zero)

        factor = agreed(each.first, each.second, scaled, each.lowest)
        wiring.constants[each.size] = np.full(size.shape, scaled(factor).size, size.dtype)
        tensors[each.size].CopyFrom(numpy_helper.from_array(wiring.constants[each.size], each.size))


def _sums(wiring: Wiring) -> Iterator[Sum]:
    for node in wiring.nodes:
        parameters: list[Sequence[str]] = []  # the scale and the zero point of each side and of the output
        if node.op_type == "QLinearAdd":
            parameters = [node.input[place : place + 2] for place in (1, 4, 6)]
        elif node.op_type == "Add":
            sides = [*map(wiring.range_of, node.input), _quantizes(wiring, node)]
            parameters = [side.input[1:3] for side in sides if side is not None]
        numbers = [_numbers(wiring, names) for names in parameters]
        if len(numbers) == 3 and None not in numbers:
            (first, _), (second, _), (output, kind) = numbers  # type: ignore[misc]
            yield Sum(node.name.split("/")[0], parameters[2][0], first, second, output, int(np.iinfo(kind).min))


def _numbers(wiring: Wiring, names: Sequence[str]) -> tuple[Steps, np.dtype] | None:
    """A scale and a zero point, and the type of the numbers; none if they are not known, are several or of 16 bits."""
    size = wiring.constants.get(names[0])
    zero = wiring.constants.get(names[1]) if len(names) > 1 and names[1] else np.uint8(0)
    if size is None or zero is None or size.size != 1 or zero.size != 1 or zero.dtype not in BYTES:
        return None
    return Steps(np.float32(size.item()), int(zero.item())), zero.dtype


def _quantizes(wiring: Wiring, node: "onnx.NodeProto") -> "onnx.NodeProto | None":
    """The QuantizeLinear that alone takes an operator's output, after a Relu at most, which its range then does."""
    after = wiring.only_taker(node.output[0])
    if after is not None and after.op_type == "Relu":
        after = wiring.only_taker(after.output[0])
    return after if after is not None and after.op_type == "QuantizeLinear" else None
