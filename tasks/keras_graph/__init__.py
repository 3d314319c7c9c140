"""Keras 2 graphs taken apart, rebuilt, made simpler, and asked what they mean."""
