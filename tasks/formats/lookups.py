"""Tables of whole numbers, which are no weights and which no file but Keras' own keeps, as tensors."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.keras_graph.rebuild import Copies, rebuild
from tasks.quantization.fake_quantization import custom_objects

if TYPE_CHECKING:
    import tensorflow as tf

MAX_REACH = 1 << 20  # from the least to the largest token: what stands for a table has a number for each between


def without_tables(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function with IntegerLookup layers that gather from a constant.

    A token outside a vocabulary that takes none (`num_oov_indices=0`) becomes 0, where Keras fails.

    Args:
        model: flat. Its layers are copied.

    Raises:
        ConversionError: the tokens of a vocabulary lie too far apart.

    """
    import tensorflow as tf

    if not any(_has_table(layer) for layer in model.layers):
        return model
    copies = Copies()
    with tf.keras.utils.custom_object_scope(custom_objects()):
        model = rebuild(model, lambda call: copies.call(call.layer, call.args, call.kwargs))
    for layer in filter(_has_table, model.layers):
        gather(layer)
    return model


def gather(layer: "tf.keras.layers.Layer") -> None:
    """Has an IntegerLookup gather from a constant from now on.

    Raises:
        ConversionError: the tokens of its vocabulary lie too far apart.

    """
    layer.lookup_table = Gathered(layer)
    layer.num_oov_indices = layer.num_oov_indices or 1  # with none it asserts, which files cannot


def _has_table(layer: "tf.keras.layers.Layer") -> bool:
    return hasattr(layer, "lookup_table") and getattr(layer, "vocabulary_dtype", "") in ("int32", "int64")


class Gathered:
    """What a lookup layer asks its table, answered by a constant."""

    def __init__(self, layer: "tf.keras.layers.Layer") -> None:
        keys, values = (np.asarray(each) for each in layer.lookup_table.export())
        self.least, most = (int(keys.min()), int(keys.max())) if keys.size else (0, 0)
        if most - self.least > MAX_REACH:
            raise ConversionError(
                f"layer '{layer.name}' ({type(layer).__name__}) has tokens from {self.least} to {most}, too far apart "
                f"for a file's table (at most {MAX_REACH}): have the data give indices, and leave the layer out"
            )
        # where several indices are for others, Keras looks for -1 and puts one of them there; where none is, it fails
        other = int(layer._default_value) if layer.num_oov_indices else 0
        # the last one is for all that lie outside
        self.indices = np.full(most - self.least + 2, other, np.int64)
        self.indices[keys - self.least] = values

    def lookup(self, tokens: Any) -> Any:
        """The index of each token, int64; the default of those that are in no vocabulary."""
        import tensorflow as tf

        places, outside = tf.cast(tokens, tf.int64) - self.least, len(self.indices) - 1
        known = tf.logical_and(places >= 0, places < outside)
        return tf.gather(tf.constant(self.indices), tf.where(known, places, tf.constant(outside, tf.int64)))
