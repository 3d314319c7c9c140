"""Policies of mixed and other precision undone: how a model was trained is no reason for files to compute so."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import Call, Copies, flat, kind, rebuild

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
