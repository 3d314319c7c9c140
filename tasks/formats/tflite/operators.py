"""What TFLite's operators ask of integers: its 8-bit quantization specification, by the operators' names in the schema.

https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

# Which input holds the values of operators that move them or pick among them: what goes in and what comes out are
# counted in the same steps.
MOVING = {
    "BATCH_TO_SPACE_ND": 0,
    "BROADCAST_TO": 0,
    "DEPTH_TO_SPACE": 0,
    "EXPAND_DIMS": 0,
    "GATHER": 0,
    "GATHER_ND": 0,
    "MAX_POOL_2D": 0,
    "MIRROR_PAD": 0,
    "PAD": 0,  # with zero, which is in every range
    "REDUCE_MAX": 0,
    "REDUCE_MIN": 0,
    "RELU": 0,
    "RESHAPE": 0,
    "RESIZE_NEAREST_NEIGHBOR": 0,
    "REVERSE_V2": 0,
    "SLICE": 0,
    "SPACE_TO_BATCH_ND": 0,
    "SPACE_TO_DEPTH": 0,
    "SPLIT": 1,
    "SPLIT_V": 0,
    "SQUEEZE": 0,
    "STRIDED_SLICE": 0,
    "TILE": 0,
    "TRANSPOSE": 0,
    "UNPACK": 0,
}
# Operators that do so with several tensors, all counted in the same steps; and the inputs that hold no values.
JOINING = {"CONCATENATION": 0, "MAXIMUM": 0, "MINIMUM": 0, "PACK": 0, "SELECT": 1, "SELECT_V2": 1}
# Operators whose integers mean something between the integers that they take, in the same steps.
BETWEEN = {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}
# Operators that multiply by a kernel: the inputs that hold values, kernel and bias.
KERNELS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# Operators whose results may be in any steps; and how many of their inputs hold values.
FREE = {
    "ADD": 2,
    "BATCH_MATMUL": 2,
    "GELU": 1,
    "HARD_SWISH": 1,
    "LEAKY_RELU": 1,
    "MEAN": 1,
    "MUL": 2,
    "SUB": 2,
    "SUM": 1,
}
# Operators whose results have steps that the specification prescribes: size and zero.
PRESCRIBED = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0)}

# The version of each operator that takes 8-bit integers, where that is another than the first
# (tensorflow/lite/tools/versioning/op_version.cc).
_LATER = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}
_FIRST = {
    "BROADCAST_TO",
    "EXPAND_DIMS",
    "GATHER_ND",
    "HARD_SWISH",
    "LEAKY_RELU",
    "RESHAPE",
    "SELECT",
    "SELECT_V2",
}
SINCE = {
    kind: _LATER.get(kind, 1 if kind in _FIRST else 2)
    for kind in {*MOVING, *JOINING, *BETWEEN, *KERNELS, *FREE, *PRESCRIBED, "DEQUANTIZE", "QUANTIZE"}
}
