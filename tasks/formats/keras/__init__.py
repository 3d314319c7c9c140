"""Keras 2 models: our own files, and those that people bring."""
