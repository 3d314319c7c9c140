"""Triton's python backend in the place of its onnxruntime one, which no package has: the same file and runtime."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["PACKAGES"])  # the backend's Python reads no PYTHONPATH

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of a model, as Triton's python backend makes them."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [triton.InferenceResponse(self._answers(request)) for request in requests]

    def _answers(self, request):
        values = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        triton.Logger.log_info(f"asked for {len(values[self.inputs[0]])}")
        answers = self.session.run(self.outputs, values)
        return [triton.Tensor(name, answer) for name, answer in zip(self.outputs, answers, strict=True)]
