"""A float ONNX file to one in int8, as far as its accuracy allows, by NNCF; runs in an environment of its own.

    python nncf_accuracy.py FLOAT.onnx EXAMPLES.npz INT8.onnx MAX_DROP

The archive holds the calibration examples under the name of the model's input, and `x` and `y` to measure accuracy on.
"""

import sys

import nncf
import numpy as np
import onnx
import onnxruntime


def main(source: str, examples: str, target: str, max_drop: str) -> None:
    """Quantize, and put layers back into float until the drop is small enough."""
    model = onnx.load(source)
    name = model.graph.input[0].name
    with np.load(examples) as arrays:
        inputs, x, y = arrays[name], arrays["x"], arrays["y"]

    def accuracy(candidate: onnx.ModelProto, rows: object) -> float:
        """The share of right answers."""
        session = onnxruntime.InferenceSession(candidate.SerializeToString(), providers=["CPUExecutionProvider"])
        right = count = 0
        for values in rows:  # type: ignore[attr-defined]
            (answer,) = session.run(None, {name: values[name]})
            right += int(answer.argmax(axis=1)[0] == y[count])
            count += 1
        return right / count

    calibration = nncf.Dataset([{name: example[None]} for example in inputs])
    validation = nncf.Dataset([{name: example[None]} for example in x])
    quantized = nncf.quantize_with_accuracy_control(
        model, calibration, validation, accuracy, max_drop=float(max_drop), subset_size=len(inputs)
    )
    onnx.save(quantized, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
