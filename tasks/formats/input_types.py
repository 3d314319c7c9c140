"""The types that a model took its inputs in as it came, which its files take again: see `keras_graph/own_types.py`."""

from typing import TYPE_CHECKING, Any

from tasks.keras_graph.own_types import is_own_type, own_types
from tasks.keras_graph.rebuild import Copies, assembled, walk
from tasks.quantization.fake_quantization import custom_objects

if TYPE_CHECKING:
    import tensorflow as tf


def in_own_types(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same model, each input of the type that it is cast to in it; its layers are copied."""
    import tensorflow as tf

    types = own_types(model)
    if all(tensor.dtype.name == dtype for tensor, dtype in zip(model.inputs, types, strict=True)):
        return model
    copies = Copies()

    def follow(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if is_own_type(node.layer) else copies.call(node.layer, args, kwargs)

    with tf.keras.utils.custom_object_scope(custom_objects()):
        inputs = [
            tf.keras.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=dtype, name=layer.name)
            for tensor, layer, dtype in zip(model.inputs, model._input_layers, types, strict=True)
        ]
        return assembled(model, inputs, walk(model, inputs, follow))
