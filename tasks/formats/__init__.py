"""One file a format: write it, open it, ask its runtime what it really runs.

The only modules that import converters and runtimes; they do it in the functions that need them.
"""

from types import ModuleType

from tasks.contract.artifact import Target
from tasks.formats.onnx import files as onnx_files
from tasks.formats.savedmodel import files as savedmodel_files
from tasks.formats.tensorrt import files as tensorrt_files
from tasks.formats.tflite import files as tflite_files

FORMATS: dict[Target, ModuleType] = {
    "onnxruntime": onnx_files,
    "litert": tflite_files,
    "savedmodel": savedmodel_files,
    "tensorrt": tensorrt_files,
}
