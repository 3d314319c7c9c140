"""TFLite for LiteRT: lowered to integers with the ranges that the model was quantized with."""
