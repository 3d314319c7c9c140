"""The inputs and outputs of a TFLite file, as LiteRT describes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.formats.tflite.files import _interpreter


@dataclass(frozen=True)
class TFLiteTensor:
    """An input or output. A value is (step - zero_point) * scale where it is in integers; in float, scale is 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


def tensors(file: Path) -> tuple[TFLiteTensor, TFLiteTensor]:
    """The input and the output of a file with one of each.

    Raises:
        ValueError: it is no model that LiteRT can open.

    """
    interpreter = _interpreter(file, 1)
    (input_,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    return _tensor(input_), _tensor(output)


def _tensor(details: dict[str, Any]) -> TFLiteTensor:
    scale, zero = details["quantization"]
    shape = tuple(int(axis) for axis in details["shape"])
    return TFLiteTensor(details["name"], np.dtype(details["dtype"]).name, shape, float(scale), int(zero))
