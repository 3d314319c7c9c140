"""Models of Keras 3, rebuilt as models of Keras 2: tensorflow-model-optimization works with no other."""
