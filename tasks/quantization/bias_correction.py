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
    expected = _means(tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names]), examples, batch)
    look = tf.keras.Model(quantized.inputs, [layer.output for layer in wrapped])
    ask = tf.function(look)  # asked once for each layer
    shifts = {}
    for index, (name, layer) in enumerate(zip(names, wrapped, strict=True)):
        shift = expected[index] - _means(look, examples, batch, ask)[index]
        layer.layer.bias.assign_add(shift)
        shifts[name] = float(np.abs(shift).max())
    return shifts


def _means(
    model: "tf.keras.Model", examples: np.ndarray, batch: int, ask: Callable[..., Any] | None = None
) -> list[np.ndarray]:
    """Each output's mean by channel, `(channels,)`, over examples and positions. ask: the model as a graph."""
    import tensorflow as tf

    totals = [np.zeros(output.shape[-1]) for output in model.outputs]
    for start in range(0, len(examples), batch):
        inputs = tf.nest.map_structure(tf.constant, as_called(examples[start : start + batch]))
        outputs = tf.nest.flatten((ask or model)(inputs, training=False))
        for total, tensor in zip(totals, outputs, strict=True):
            # an example whose steps are all masked has no mean over them, in either model
            total += np.nansum(tensor.numpy().reshape(-1, total.size), axis=0, dtype=np.float64)
    places = [int(np.prod(output.shape[1:-1], dtype=np.int64)) for output in model.outputs]
    return [(total / (len(examples) * count)).astype(np.float32) for total, count in zip(totals, places, strict=True)]
