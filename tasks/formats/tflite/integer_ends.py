"""Integers at a TFLite file's own ends, for devices that have no floats at all."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.formats.tflite.graph import TFLiteGraph
from tasks.keras_graph.rebuild import Copies, free_names, kind, rebuild
from tasks.quantization.fake_quantization import custom_objects

if TYPE_CHECKING:
    import tensorflow as tf


def quantized_at_inputs(model: "tf.keras.Model") -> "tf.keras.Model":
    """A frozen fake-quantized model whose raw inputs are quantized too, so that their rescaling runs in integers.

    A raw input gets the range of the first quantized tensor behind it, in the input's own unit.

    Raises:
        ConversionError: something other than rescaling stands between an input and the first quantized tensor.

    """
    import tensorflow as tf

    copies, free = Copies(), free_names(layer.name for layer in model.layers)

    def source(layer: "tf.keras.layers.Layer", tensor: Any) -> Any:
        low, high = _raw_range(layer)
        quantizer = custom_objects()["FixedQuantizer"](8, low, high, narrow_range=False)
        return custom_objects()["QuantizeLayer"](quantizer, name=free(f"{layer.name}_raw"))(tensor)

    with tf.keras.utils.custom_object_scope(custom_objects()):
        return rebuild(model, lambda call: copies.call(call.layer, call.args, call.kwargs), source)


def _raw_range(layer: "tf.keras.layers.Layer") -> tuple[float, float]:
    """What an input's values reach from and to, before the Rescaling layers that may follow it."""
    factor: Any = 1.0
    offset: Any = 0.0
    after = layer
    while kind(after) in ("InputLayer", "Rescaling"):
        if kind(after) == "Rescaling":
            factor = factor * np.asarray(after.scale, np.float64)
            offset = offset * np.asarray(after.scale, np.float64) + np.asarray(after.offset, np.float64)
        followers = [node.layer for node in after._outbound_nodes]
        if len(followers) != 1:
            break
        after = followers[0]
    if kind(after) != "QuantizeLayer":
        raise ConversionError(
            f"layer '{after.name}' ({kind(after)}) takes the input '{layer.name}' in float, so litert cannot be given "
            "integers there: leave convert.litert_io at float32, or begin the model with Rescaling and an integer layer"
        )
    ends = [(end - offset) / factor for end in (after.quantizer.init_min, after.quantizer.init_max)]
    return float(np.min(ends)), float(np.max(ends))


def softened_last(content: bytes) -> bytes:
    """A file of the converter's own integers with each last softmax behind the step to float instead of before it.

    The converter has probabilities in steps of 1/256: with many classes, or unsure ones, the largest two are often
    the same. What is computed in float instead is a few exponentials.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph = TFLiteGraph(content)
    takers, moved = graph.takers(), False
    for place, softmax in enumerate(graph.operators):
        after = takers[softmax.outputs[0]] if graph.kind(softmax) == "SOFTMAX" else []
        if [graph.kind(taker) for taker in after] != ["DEQUANTIZE"] or after[0].outputs[0] not in graph.outputs:
            continue
        (dequantize,) = after
        between = graph.tensors[softmax.outputs[0]]
        between.type, between.quantization = schema.TensorType.FLOAT32, None
        softmax.inputs, dequantize.inputs = dequantize.inputs, softmax.inputs
        softmax.outputs, dequantize.outputs = dequantize.outputs, softmax.outputs
        graph.operators[graph.operators.index(dequantize)] = softmax
        graph.operators[place] = dequantize
        moved = True
    return graph.finished(len(content)) if moved else content
