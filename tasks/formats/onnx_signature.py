"""What an ONNX file takes and gives, as ONNX Runtime tells it."""

from dataclasses import dataclass
from pathlib import Path

from tasks.formats.onnx import _session

# ONNX Runtime's own words for the types that a server can be sent, as NumPy calls them.
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output. shape: without the batch axis; -1 where any length will do."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def signature(file: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and outputs of a file, opened in ONNX Runtime.

    Raises:
        ValueError: it is no model that ONNX Runtime can open.

    """
    try:
        session = _session(str(file), 1)
    except Exception as error:  # the runtime's own, which share no class
        raise ValueError(f"ONNX Runtime cannot open {file.name}: {' '.join(str(error).split())[:300]}") from error
    return tuple(map(_tensor, session.get_inputs())), tuple(map(_tensor, session.get_outputs()))


def _tensor(told: object) -> Tensor:
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in told.shape)  # type: ignore[attr-defined]
    return Tensor(told.name, TYPES[told.type], shape[1:])  # type: ignore[attr-defined]
