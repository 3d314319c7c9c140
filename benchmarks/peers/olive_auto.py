"""A float ONNX file to the fastest in int8 that Olive's search finds; runs in an environment of its own.

    python olive_auto.py FLOAT.onnx EXAMPLES.npz INT8.onnx MAX_DROP

The archive holds the calibration examples under the name of the model's input, and `x` and `y` to measure accuracy on.
Olive's commands take no images: `olive optimize` calibrates by a text (WikiText), and `olive auto-opt` quantizes
dynamically. So this is the search that its documentation describes, over all that its static quantization lets vary:
the best is the fastest, at one image and one thread, whose share of right answers drops by at most MAX_DROP.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from olive.data.component.dataset import BaseDataset
from olive.data.registry import Registry
from olive.evaluator.olive_evaluator import OnnxEvaluator
from olive.evaluator.registry import Registry as Evaluators
from olive.model import ONNXModelHandler
from olive.workflows import run

MOST_SECONDS = 1200  # 72 settings of a few seconds each; a slow machine's search ends with the best so far


@Registry.register_dataset("examples")
def examples(source: str, name: str, images: str, labels: str | None = None) -> BaseDataset:
    """Pairs of a model's input and a label, which is 0 where none is asked for."""
    with np.load(source) as arrays:
        x = arrays[images]
        y = arrays[labels] if labels else np.zeros(len(x), np.int64)
    return BaseDataset([({name: image}, label) for image, label in zip(x, y, strict=True)])


@Registry.register_post_process("answer")
def answer(output: torch.Tensor) -> torch.Tensor:
    """Probabilities `(batch, classes)` to the classes `(batch,)` that Olive compares with labels."""
    return output.argmax(dim=-1)


@Evaluators.register("OneThread")
class OneThread(OnnxEvaluator):
    """Olive's evaluator with one thread: Olive 0.13 loses the metric's own `inference_settings` on the way."""

    def evaluate(self, model: ONNXModelHandler, *rest: object, **more: object) -> object:
        """As Olive does."""
        model.inference_settings = {"session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}
        return super().evaluate(model, *rest, **more)


def settings(source: str, archive: str, max_drop: float, place: Path) -> dict[str, object]:
    """Olive's settings; it knows of no other data than this."""
    model = onnx.load(source)
    name = model.graph.input[0].name
    classes = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value

    def data(called: str, batch: int, **which: str) -> dict[str, object]:
        return {
            "name": called,
            "load_dataset_config": {"type": "examples", "params": {"source": archive, "name": name, **which}},
            "post_process_data_config": {"type": "answer"},
            "dataloader_config": {"params": {"batch_size": batch}},
        }

    latency = {"name": "p50", "priority": 1, "metric_config": {"warmup_num": 50, "repeat_test_num": 500}}
    accuracy = {
        "name": "accuracy_score",
        "priority": 2,
        "metric_config": {"task": "multiclass", "num_classes": classes},
        "goal": {"type": "max-degradation", "value": max_drop},
    }
    return {
        "input_model": {"type": "ONNXModel", "model_path": source},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "data_configs": [data("calibration", 1, images=name), data("validation", 50, images="x", labels="y")],
        "evaluators": {
            "both": {
                "type": "OneThread",
                "metrics": [
                    {
                        "name": "latency",
                        "type": "latency",
                        "sub_types": [latency],
                        "data_config": "calibration",
                    },
                    {
                        "name": "accuracy",
                        "type": "accuracy",
                        "sub_types": [accuracy],
                        "data_config": "validation",
                    },
                ],
            }
        },
        "passes": {"quantization": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
        "search_strategy": {
            "execution_order": "joint",
            "sampler": "sequential",  # all of them, so there is no seed to choose
            "max_time": MOST_SECONDS,
        },
        "evaluator": "both",
        "host": "here",
        "target": "here",
        "cache_dir": str(place / "cache"),
        "output_dir": str(place / "best"),
        "log_severity_level": 2,
    }


def main(source: str, archive: str, target: str, max_drop: str) -> None:
    """Search, and keep the best."""
    with tempfile.TemporaryDirectory() as place:
        result = run(settings(source, archive, float(max_drop), Path(place)), tempdir=place)
        best = result.get_best_candidate()
        if best is None:
            sys.exit(f"Olive gave no file that loses at most {max_drop}; where it failed, its log says why")
        onnx.save(onnx.load(best.model_path), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
