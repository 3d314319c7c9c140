"""The inputs and outputs of a TFLite file, as LiteRT describes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.formats.tflite.files import Ends, _interpreter, ends


@dataclass(frozen=True)
class TFLiteTensor:
    """An input or output. A value is (step - zero_point) * scale where it is in integers; in float, scale is 0.

    name: the tensor's own. called: as the file's signature does, and people.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    called: str = ""


def tensors(file: Path) -> tuple[TFLiteTensor, TFLiteTensor]:
    """The input and the output of a file with one of each.

    Raises:
        ValueError: it is no model that LiteRT can open, or has several.

    """
    (input_,), (output,) = signature(file)
    return input_, output


def signature(file: Path) -> tuple[tuple[TFLiteTensor, ...], tuple[TFLiteTensor, ...]]:
    """The inputs and outputs of a file, in the order in which they lie in it.

    Raises:
        ValueError: it is no model that LiteRT can open.

    """
    interpreter = _interpreter(file, 1)
    inputs, outputs = ends(interpreter)
    return _in_order(inputs, interpreter.get_input_details()), _in_order(outputs, interpreter.get_output_details())


def _in_order(named: Ends, lying: list[dict[str, Any]]) -> tuple[TFLiteTensor, ...]:
    places = [details["index"] for details in lying]
    return tuple(_tensor(*each) for each in sorted(named.items(), key=lambda each: places.index(each[1]["index"])))


def _tensor(called: str, details: dict[str, Any]) -> TFLiteTensor:
    scale, zero = details["quantization"]
    shape = tuple(int(axis) for axis in details["shape"])
    dtype = np.dtype(details["dtype"]).name
    return TFLiteTensor(details["name"], dtype, shape, float(scale), int(zero), called)
