"""ONNX files asked in this process, with ONNX Runtime's switch or without."""

from collections.abc import Callable, Mapping

import numpy as np

SWITCH = "session.x64quantprecision"  # ONNX Runtime's: int8 weights become uint8 when a file is opened
BATCH = 100


def settings(*, switched: bool) -> Mapping[str, str]:
    """Of the session that opens a file."""
    return {SWITCH: "1"} if switched else {}


def opened(model: bytes | str, *, switched: bool) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A file, or its bytes, as a function from inputs `(n, ...)` to all its outputs, on one thread.

    Args:
        model: with one input.
        switched: whether it is opened with `SWITCH`.

    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    for entry, value in settings(switched=switched).items():
        options.add_session_config_entry(entry, value)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def answers(model: bytes | str, x: np.ndarray, *, switched: bool) -> list[np.ndarray]:
    """All outputs `(n, ...)` of a file for inputs `(n, ...)`, asked in batches."""
    ask = opened(model, switched=switched)
    batches = [ask(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]
