"""The stages of a compression and what they stand on.

Importing this package chooses Keras 2: tensorflow-model-optimization works with no other, and what `tf.keras` is gets
decided once, when TensorFlow is first imported.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # start-up chatter about CPUs and GPUs, of no use to a person
os.environ.setdefault(
    "CUDA_VISIBLE_DEVICES", "-1"
)  # evidence is measured on the processor; a GPU would train another digest
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime 1.32 keeps a device's number and a log to send
os.environ.setdefault(
    "MLFLOW_DISABLE_TELEMETRY", "true"
)  # decided when MLflow is imported, by whichever of our modules
