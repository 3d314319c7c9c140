"""Bias correction: rounding kernels moves the mean of a layer's output; its bias takes the move back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, in the
empirical form of its appendix: the means come from examples.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.asked import as_called
from tasks.keras_graph.rebuild import kind

if TYPE_CHECKING:
    import tensorflow as tf


def correct_biases(
    quantized: "tf.keras.Model", model: "tf.keras.Model", examples: np.ndarray, batch: int
) -> dict[str, float]:
    """Shift the biases of a fake-quantized model, in place, until each channel's mean is the float model's.

    Layer by layer from the input on, so that each is corrected for what is still off before it. Layers without a bias,
    and those that the graph calls more than once, are left as they are.

    Args:
        quantized: fake-quantized, with its ranges set.
        model: the float model that it was made of, whose layers bear the same names.
        examples: raw inputs `(n, ...)`, float32, or records of them.
        batch: how many examples are looked at together.

    Returns:
        The largest shift in each layer, by the layer's name, in the unit of its output.

    """
    import tensorflow as tf

    wrapped = [
        layer
        for layer in quantized.layers
        if kind(layer) == "QuantizeWrapperV2" and layer.layer.use_bias and len(layer.inbound_nodes) == 1
    ]
    if not wrapped:
        return {}
    names = [layer.layer.name for layer in wrapped]
    expected = _means(tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names]), examples, batch)()
    means = _means(tf.keras.Model(quantized.inputs, [layer.output for layer in wrapped]), examples, batch)
    shifts = {}
    for index, (name, layer) in enumerate(zip(names, wrapped, strict=True)):
        shift = expected[index] - means()[index]
        layer.layer.bias.assign_add(shift)
        shifts[name] = float(np.abs(shift).max())
    return shifts


def _means(model: "tf.keras.Model", examples: np.ndarray, batch: int) -> Callable[[], list[np.ndarray]]:
    """What computes each output's mean by channel, `(channels,)`, over examples and positions, as weights are now."""
    import tensorflow as tf

    def summed(inputs: Any) -> list[Any]:
        outputs = tf.nest.flatten(model(inputs, training=False))
        # an example whose steps are all masked has no mean over them, in either model
        known = [tf.where(tf.math.is_nan(tensor), tf.zeros_like(tensor), tensor) for tensor in outputs]
        return [tf.reduce_sum(tensor, range(len(tensor.shape) - 1)) for tensor in known]

    ask = tf.function(summed)
    parts = (examples[start : start + batch] for start in range(0, len(examples), batch))
    batches = [tf.nest.map_structure(tf.constant, as_called(part)) for part in parts]
    places = [int(np.prod(output.shape[1:-1], dtype=np.int64)) for output in model.outputs]

    def means() -> list[np.ndarray]:
        sums = [np.sum(each, axis=0, dtype=np.float64) for each in zip(*map(ask, batches), strict=True)]
        return [
            np.asarray(each / (len(examples) * count), np.float32) for each, count in zip(sums, places, strict=True)
        ]

    return means
