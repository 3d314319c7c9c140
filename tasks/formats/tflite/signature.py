"""What a TFLite file takes and gives, as LiteRT tells it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.formats.tflite.files import _interpreter


@dataclass(frozen=True)
class Tensor:
    """An input or output. A value is (step - zero_point) * scale where it is in integers; in float, scale is 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


def tensors(file: Path) -> tuple[Tensor, Tensor]:
    """The input and the output of a file with one of each.

    Raises:
        ValueError: it is no model that LiteRT can open.

    """
    interpreter = _interpreter(file, 1)
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    return _tensor(given), _tensor(wanted)


def _tensor(told: dict[str, Any]) -> Tensor:
    scale, zero = told["quantization"]
    shape = tuple(int(axis) for axis in told["shape"])
    return Tensor(told["name"], np.dtype(told["dtype"]).name, shape, float(scale), int(zero))
