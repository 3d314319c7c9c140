"""One file a format: write it, open it, ask its runtime what it really runs.

The only modules that import converters and runtimes; they do it in the functions that need them.
"""

from types import ModuleType

from tasks.artifact import Target
from tasks.formats import onnx, savedmodel, tensorrt, tflite

FORMATS: dict[Target, ModuleType] = {
    "onnxruntime": onnx,
    "litert": tflite,
    "savedmodel": savedmodel,
    "tensorrt": tensorrt,
}
