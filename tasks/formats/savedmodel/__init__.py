"""SavedModel for TensorFlow Serving, with requests to warm it up."""
