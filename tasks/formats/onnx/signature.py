"""The inputs and outputs of an ONNX file, as ONNX Runtime describes them."""

from pathlib import Path

from tasks.formats.onnx.files import _session
from tasks.formats.slimline_pyfunc import TensorSpec, onnx_tensor


def signature(file: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of a file, opened in ONNX Runtime.

    Raises:
        ValueError: it is no model that ONNX Runtime can open.

    """
    try:
        session = _session(str(file), 1)
    except Exception as error:  # the runtime's own, which share no class
        raise ValueError(f"ONNX Runtime cannot open {file.name}: {' '.join(str(error).split())[:300]}") from error
    return tuple(map(onnx_tensor, session.get_inputs())), tuple(map(onnx_tensor, session.get_outputs()))
