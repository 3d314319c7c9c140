"""Policies of mixed and other precision: which layers may train in half, and all of it undone.

How a model was trained is no reason for files to compute so.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import Call, Copies, calls_of, flat, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf

OTHERS = frozenset({"bfloat16", "float16", "float64", "half", "mixed_bfloat16", "mixed_float16"})


def in_float32(model: "tf.keras.Model") -> "tf.keras.Model":
    """The model with the same weights, computed in float32 all through; itself if it is already.

    Nested models that compute in something else are flat afterwards.

    Raises:
        ConversionError: the model is no graph of layers.

    """
    import tensorflow as tf

    if not any(part.dtype_policy.name in OTHERS for part in model._flatten_layers()):
        return model
    copies = Copies()

    def answer(call: Call) -> Any:
        args, kwargs = tf.nest.map_structure(_value, (call.args, call.kwargs))
        settings = {} if kind(call.layer) == "Lambda" else call.layer.get_config()  # that of code is not needed
        changes = {key: _setting(key, value) for key, value in settings.items()}
        return copies.call(call.layer, args, kwargs, **{**changes, "dtype": _dtype(call.layer)})

    def source(_: "tf.keras.layers.Layer", tensor: Any) -> Any:
        return tf.cast(tensor, tf.float32) if tensor.dtype.name in OTHERS else tensor

    return rebuild(flat(model), answer, source)


def _dtype(layer: "tf.keras.layers.Layer") -> str:
    name = str(layer.dtype_policy.name)
    return "float32" if name in OTHERS else name


def _setting(key: str, value: Any) -> Any:
    """A setting of a layer's config, or of what is in it, with float32 for the policies of others."""
    if isinstance(value, dict):
        if key == "dtype":
            return "float32" if (value.get("config") or {}).get("name") in OTHERS else value
        return {inner: _setting(inner, each) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        settings = [_setting("", each) for each in value]
        return settings if isinstance(value, list) else tuple(settings)
    return "float32" if key == "dtype" and value in OTHERS else value


def _value(value: Any) -> Any:
    """An argument of a call: types, and constants of them, that are to be float32."""
    import tensorflow as tf

    if isinstance(value, tf.DType | str):
        return tf.float32 if getattr(value, "name", value) in OTHERS else value
    if isinstance(value, np.ndarray | np.generic) or (
        tf.is_tensor(value) and not tf.keras.backend.is_keras_tensor(value)
    ):
        return tf.cast(value, tf.float32) if value.dtype in (tf.float16, tf.bfloat16, tf.float64) else value
    return value


# Keras' own layers that compute in half precision what they would in float32, and whose inputs are their first
# argument, which Keras casts for them. All else stays in float32: recurrent layers and others with layers inside,
# embeddings, rescaling of raw values that float16 does not hold, and operations, which take values as they come.
HALVED = frozenset(
    {
        *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "DepthwiseConv1D"),
        *("DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "BatchNormalization", "LayerNormalization"),
        *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Dropout", "SpatialDropout1D", "SpatialDropout2D"),
        *("Add", "Multiply", "Average", "Maximum", "Concatenate", "Flatten", "Reshape", "Permute", "ZeroPadding1D"),
        *("ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D", "MaxPooling1D", "MaxPooling2D"),
        *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    }
)


def halved(model: "tf.keras.Model") -> frozenset[int]:
    """Which layers of a graph may compute in half precision, by `id`, those of nested models among them.

    Those of `HALVED` whose outputs such layers alone take. What a model answers by, from its outputs back to the first
    layers with weights, is computed in float32: a loss needs the digits.
    """
    import tensorflow as tf

    takers: dict[int, list[Any]] = defaultdict(list)
    makers: dict[int, list[Any]] = defaultdict(list)
    for node in calls_of(model):
        for tensor in node.keras_inputs:
            maker = tensor._keras_history.layer
            takers[id(maker)].append(node.layer)
            makers[id(node.layer)].append(maker)
    answering: set[int] = set()
    queue = [tensor._keras_history.layer for tensor in model.outputs]
    while queue:
        layer = queue.pop()
        if id(layer) not in answering:
            answering.add(id(layer))
            queue += [] if layer.weights else makers[id(layer)]
    chosen: set[int] = set()
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            chosen |= halved(layer) if getattr(layer, "_is_graph_network", False) else set()
        elif id(layer) not in answering and all(map(_halves, [layer, *takers[id(layer)]])):
            chosen.add(id(layer))
    return frozenset(chosen)


def _halves(layer: "tf.keras.layers.Layer") -> bool:
    """A layer of Keras' own that is not set to another type already; one of the user's may be called as it."""
    own = type(layer).__module__.startswith("tf_keras.")
    return own and kind(layer) in HALVED and layer.dtype_policy.name == "float32"
