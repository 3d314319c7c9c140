"""Which tensors of a Keras model are quantized, with which ranges, so that no kernel saturates and all round alike."""
