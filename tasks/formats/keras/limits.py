"""What a model that somebody brought may ask of the memory: a config of a few bytes can announce layers of any size."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import ModelError
from tasks.keras_graph.rebuild import calls_of

if TYPE_CHECKING:
    import tensorflow as tf

SPARE_VALUES = 1 << 16  # that a model may have beyond what its file holds: counters and the like
MAX_VALUES = 1 << 28  # of one tensor for one example: a gigabyte


@contextmanager
def allowance(values: int | None) -> Iterator[None]:
    """Lets Keras 2 make variables as long as the file has a number for each of them; None sets no bound.

    Without it, a variable would be filled before anybody sees that the file has no weights for it.

    Raises:
        ValueError: there were more; Keras hands it on, as its own errors about a file.

    """
    import tensorflow as tf

    if values is None:
        yield
        return
    left = values + SPARE_VALUES

    def counted(create: Any, **settings: Any) -> Any:
        nonlocal left
        left -= tf.TensorShape(settings.get("shape")).num_elements() or 0
        if left < 0:
            raise ValueError(f"it asks for more weights than the {values:,} numbers that the file holds")
        return create(**settings)

    with tf.variable_creator_scope(counted):
        yield


def check_tensors(model: "tf.keras.Model", name: str, field: str) -> None:
    """Compare the size of each layer's output with what any memory takes, before it is computed.

    Args:
        model: a graph of layers.
        name: what the user calls it, for messages.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: names the layer and the shape.

    """
    import tensorflow as tf

    for call in calls_of(model):
        for tensor in tf.nest.flatten(call.outputs):
            if math.prod(size or 1 for size in tensor.shape) > MAX_VALUES:
                raise ModelError(
                    field, name, f"its layer '{call.layer.name}' gives {tensor.shape}: too large for any memory"
                )
        if isinstance(call.layer, tf.keras.Model):
            check_tensors(call.layer, name, field)
