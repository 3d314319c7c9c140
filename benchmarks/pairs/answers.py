"""ONNX files asked, imported here or as a program on another processor: `python answers.py question.npz answer.npz`.

As a program it needs NumPy and ONNX Runtime alone: on an emulated processor every import takes seconds.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

SWITCH = "session.x64quantprecision"  # ONNX Runtime's: int8 weights become uint8 when a file is opened
BATCH = 100


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
    if switched:
        options.add_session_config_entry(SWITCH, "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def answers(model: bytes | str, x: np.ndarray, *, switched: bool) -> list[np.ndarray]:
    """All outputs `(n, ...)` of a file for inputs `(n, ...)`, asked in batches."""
    ask = opened(model, switched=switched)
    batches = [ask(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def main(arguments: Sequence[str]) -> None:
    """Answer `question.npz`: `x`, and under `model/NAME` or `switched/NAME` the bytes of each file.

    Prints what answers, the processor's instruction sets in NumPy's words, then a line of each file with its seconds.
    """
    import onnxruntime

    question, answer = arguments
    flags = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]  # asked of the processor itself
    print(json.dumps([f"ONNX Runtime {onnxruntime.__version__}", [name for name, has in flags.items() if has]]))
    found: dict[str, np.ndarray] = {}
    with np.load(question) as asked:
        x = asked["x"]
        for key in asked.files:
            how, _, name = key.partition("/")
            if name:
                began = time.monotonic()
                outputs = answers(asked[key].tobytes(), x, switched=how == "switched")
                found |= {f"{name}/{number}": output for number, output in enumerate(outputs)}
                print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    np.savez(answer, **found)  # type: ignore[arg-type]  # its annotation takes no keyword but allow_pickle


if __name__ == "__main__":
    main(sys.argv[1:])
