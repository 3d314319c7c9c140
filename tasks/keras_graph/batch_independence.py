"""Whether a model answers each example by itself, whatever it is asked together with."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import calls_of, kind

if TYPE_CHECKING:
    import tensorflow as tf

COUNT = 3
NEAR = 1e-3  # of what the answers reach over: kernels for another batch add in another order
ANY = 8  # as large as an axis of any size is taken
SIZES = ("input_dim", "num_tokens")  # of layers that take whole numbers: how many


def mixed_up(model: "tf.keras.Model") -> str:
    """Why a model's answers depend on what it is asked together with, and the way out; empty if they do not.

    It is asked: random examples one at a time, and together. Operations that were built for a fixed batch, such as
    `tf.reshape(x, (1, 12))`, and means over the batch show so, wherever they stand.

    Args:
        model: from `(batch, …)` to `(batch, …)`, the batch free.

    """
    import tensorflow as tf

    x = [_drawn(model, tensor) for tensor in model.inputs]
    try:
        if _answers_alone_as_together(model, x):
            return ""
    except (ValueError, TypeError, tf.errors.OpError) as error:
        return (
            f"cannot be asked {COUNT} examples at once ({' '.join(str(error).split())[:200]}): build it with a free "
            "batch, such as tf.keras.Input(shape) without batch_size, and -1 where it reshapes, and set_weights from "
            "this one's get_weights()"
        )
    return (
        f"answers an example otherwise when it is asked together with others{_first(model, x)}: build it so that no "
        "operation looks across the batch (axis 0), and set_weights from this one's get_weights()"
    )


def _answers_alone_as_together(model: "tf.keras.Model", x: list[np.ndarray]) -> bool:
    """Whether all outputs are the same for each example alone and together with others."""
    import tensorflow as tf

    together = tf.nest.flatten(_asked(model, x))
    alone = [tf.nest.flatten(_asked(model, [each[i : i + 1] for each in x])) for i in range(COUNT)]
    for number, actual in enumerate(together):
        parts = [each[number] for each in alone]
        if not all(np.ndim(part) for part in parts):
            return False
        expected = np.concatenate(parts)
        if len(actual) != COUNT:  # an example has several answers, in order or not
            return False
        reach = max(float(np.nanmax(np.abs(expected), initial=0)), 1e-6)
        same_shape = actual.shape == expected.shape
        if not same_shape or not np.allclose(actual, expected, rtol=0, atol=NEAR * reach, equal_nan=True):
            return False
    return True


def _first(model: "tf.keras.Model", x: list[np.ndarray]) -> str:
    """Which layer is the first behind which examples are mixed up, in words; nothing where none can be asked."""
    import tensorflow as tf

    for node in calls_of(model):
        try:
            same = _answers_alone_as_together(tf.keras.Model(model.inputs, tf.nest.flatten(node.outputs)[0]), x)
        except (ValueError, TypeError, tf.errors.OpError):
            return ""
        if not same:
            steps = ", time_major=True" if getattr(node.layer, "time_major", False) else ""
            return f", first in layer '{node.layer.name}' ({kind(node.layer)}{steps})"
    return ""


def _drawn(model: "tf.keras.Model", tensor: Any) -> np.ndarray:
    """Examples `(3, …)` that an input can take: whole numbers that an embedding or an encoding has, or any."""
    shape = (COUNT, *(size or ANY for size in tensor.shape[1:]))
    draw = np.random.default_rng(0)
    size = vocabulary(model)
    if size or not tensor.dtype.is_floating:
        return draw.integers(0, size or 2, shape).astype(tensor.dtype.as_numpy_dtype)
    return draw.normal(size=shape).astype(tensor.dtype.as_numpy_dtype)


def vocabulary(model: "tf.keras.Model") -> int:
    """The least number of embeddings or tokens that an input may choose among; 0 if there are none."""
    parts = list(model._flatten_layers())
    sizes = [getattr(part, name) for part in parts for name in SIZES if isinstance(getattr(part, name, None), int)]
    return min(sizes, default=0)


def _asked(model: "tf.keras.Model", x: list[np.ndarray]) -> Any:
    import tensorflow as tf

    outputs = model(x if len(x) > 1 else x[0], training=False)
    return tf.nest.map_structure(np.asarray, outputs)
