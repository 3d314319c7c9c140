"""What an ONNX file takes and gives, as ONNX Runtime tells it."""

from pathlib import Path

from tasks.formats.onnx.files import _session
from tasks.formats.slimline_pyfunc import Tensor, onnx_tensor


def signature(file: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and outputs of a file, opened in ONNX Runtime.

    Raises:
        ValueError: it is no model that ONNX Runtime can open.

    """
    try:
        session = _session(str(file), 1)
    except Exception as error:  # the runtime's own, which share no class
        raise ValueError(f"ONNX Runtime cannot open {file.name}: {' '.join(str(error).split())[:300]}") from error
    return tuple(map(onnx_tensor, session.get_inputs())), tuple(map(onnx_tensor, session.get_outputs()))
