"""ONNX for NVIDIA's TensorRT: the form that it builds integer kernels from, and its rules."""
