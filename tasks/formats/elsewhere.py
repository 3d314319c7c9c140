"""Files asked on the processor that this is run on: `python elsewhere.py question.npz answer.npz`.

A program, never imported: another processor's Python has NumPy and the runtimes, and nothing of ours. It asks as the
formats' `load` do, with one thread, but opens every file as it is, and feeds and reads each tensor in the file's own
type, so that integers stay integers. Several inputs are records, with a field for each by its name.
"""

import json
import platform
import sys
from importlib import import_module
from importlib.metadata import version

import numpy as np


def ask_onnxruntime(model: bytes, inputs: np.ndarray, settings: dict[str, str]) -> list[np.ndarray]:
    """All outputs of an ONNX file, by a session with these settings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are of optimisations that were not made
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, fed(inputs, [end.name for end in session.get_inputs()]))
    return outputs


def ask_litert(model: bytes, inputs: np.ndarray, _: dict[str, str]) -> list[np.ndarray]:
    """All outputs of a TFLite file; LiteRT has no settings of that kind."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    details = interpreter.get_input_details()
    if len(details) == 1:
        taken = {details[0]["index"]: inputs}
    else:  # they stand in an order of their own
        named = interpreter.get_signature_runner().get_input_details()
        taken = {named[name]["index"]: values for name, values in fed(inputs, list(named)).items()}
    for index, values in taken.items():
        interpreter.resize_tensor_input(index, values.shape)
    interpreter.allocate_tensors()
    for index, values in taken.items():
        interpreter.set_tensor(index, values)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def fed(inputs: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """A file's inputs by name: the fields of records, or the one array."""
    if inputs.dtype.names is None:
        return {names[0]: inputs}
    return {name: np.ascontiguousarray(inputs[name]) for name in names}


ASK = {"onnxruntime": ask_onnxruntime, "litert": ask_litert}
MODULES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert.interpreter"}
LIBRARIES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}


def main(question: str, answer: str) -> None:
    """Ask every file in `question` and write its outputs into `answer`.

    The first line that is printed says what answers, and each further one which file is asked next: whoever started
    this then knows what it was that ended it.

    Args:
        question: an .npz; for each file it has `<target>/<number>/model`, its bytes, `<target>/<number>/inputs`, and
            `<target>/<number>/settings` as JSON.
        answer: an .npz that is made; it has `<target>/<number>/0`, `…/1` and so on for the file's outputs.

    """
    with np.load(question) as asked:
        files = [name.removesuffix("/model") for name in asked if name.endswith("/model")]
        targets = list(dict.fromkeys(file.split("/")[0] for file in files))
        for target in targets:
            import_module(MODULES[target])
        # NumPy asks the processor itself: /proc/cpuinfo is this machine's, whatever is emulated
        flags = import_module("numpy._core._multiarray_umath").__cpu_features__
        about = {
            "machine": platform.machine(),
            "instruction_sets": [name for name, has in flags.items() if has],
            "libraries": {name: version(name) for name in ("numpy", *(LIBRARIES[target] for target in targets))},
        }
        print(json.dumps(about), flush=True)
        answers = {}
        for file in files:
            print(file, flush=True)
            settings = json.loads(str(asked[f"{file}/settings"]))
            outputs = ASK[file.split("/")[0]](asked[f"{file}/model"].tobytes(), asked[f"{file}/inputs"], settings)
            answers.update({f"{file}/{number}": output for number, output in enumerate(outputs)})
    np.savez(answer, **answers)  # type: ignore[arg-type]  # its next argument is a switch


if __name__ == "__main__":
    main(*sys.argv[1:])
