"""Ways from a Keras model to integers, side by side: what each file really runs, how right it is and how fast."""
