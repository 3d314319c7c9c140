"""A server around a registered version's ONNX file: the Open Inference Protocol over REST and gRPC, by KServe.

Served from a folder it needs neither TensorFlow, nor MLflow, nor Prefect: this package and what it imports is all that
an image has to hold.
"""
