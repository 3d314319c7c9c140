"""Channel pruning: whole filters leave a Keras graph, and what is left is an ordinary Keras model."""
