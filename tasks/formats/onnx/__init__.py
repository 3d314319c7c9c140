"""ONNX for ONNX Runtime on processors."""
