"""The inputs and outputs of a TFLite file, as LiteRT describes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.formats.tflite.files import _interpreter, ends


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
    """The inputs and outputs of a file, in the order of their names.

    Raises:
        ValueError: it is no model that LiteRT can open.

    """
    inputs, outputs = ends(_interpreter(file, 1))
    return tuple(map(_tensor, inputs, inputs.values())), tuple(map(_tensor, outputs, outputs.values()))


def _tensor(called: str, details: dict[str, Any]) -> TFLiteTensor:
    scale, zero = details["quantization"]
    shape = tuple(int(axis) for axis in details["shape"])
    dtype = np.dtype(details["dtype"]).name
    return TFLiteTensor(details["name"], dtype, shape, float(scale), int(zero), called)
