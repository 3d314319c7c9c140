"""A float ONNX file to an int8 one by NNCF; runs in an environment of its own.

    python nncf_int8.py FLOAT.onnx EXAMPLES.npz INT8.onnx PRESET

The archive holds an array `(n, ...)` under the name of the model's input. The preset is `performance` (activations
symmetric, NNCF's default) or `mixed` (asymmetric).
"""

import sys

import nncf
import numpy as np
import onnx


def main(source: str, examples: str, target: str, preset: str) -> None:
    """Quantize by the examples, one at a time."""
    model = onnx.load(source)
    name = model.graph.input[0].name
    inputs = np.load(examples)[name]
    data = nncf.Dataset([{name: example[None]} for example in inputs])
    quantized = nncf.quantize(model, data, preset=nncf.QuantizationPreset(preset), subset_size=len(inputs))
    onnx.save(quantized, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
