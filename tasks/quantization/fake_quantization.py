"""Fake quantization: where a model's tensors are quantized to 8 bits, and with which ranges.

The scheme is the one that integer kernels of ONNX Runtime and LiteRT share (Jacob et al. 2018; Krishnamoorthi 2018):
kernels symmetric in [-127, 127] with a scale for each channel, activations asymmetric in 256 steps with one scale for
the tensor. A channel's scale follows the pair rule (`pair_rule`), so that no processor's kernels saturate and every one
gives the same integers. tensorflow-model-optimization's `QuantizeLayer` quantizes activations, its `QuantizeWrapperV2`
kernels. Its own `quantize_apply` is not used: it quantizes a depthwise kernel with one scale for all channels and a
Dense kernel likewise, refuses Conv1D and nested models, and its patterns decide by layer type alone what is quantized.
"""

from collections.abc import Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.asked import as_called
from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.rebuild import KERNELS, RANGE, Call, Copies, free_names, kernel_of, kind, rebuild
from tasks.quantization.bias_correction import correct_biases
from tasks.quantization.calibration import Calibration, Seen, chosen_range
from tasks.quantization.kernel_limits import settle
from tasks.quantization.pair_rule import HALF, LEVELS, Kernels, meeting, steps
from tasks.quantization.parameters import (
    as_rows,
    kernel_variable,
    kind_of_quantizer,
    nudged,
    quantized_kernel,
    rows_first,
)
from tasks.quantization.placement import PRESCRIBED, Placement, activation

if TYPE_CHECKING:
    import tensorflow as tf

WRAPPED = "quant_"  # what the name of a layer around another one begins with, as tfmot has it


@cache
def custom_objects() -> dict[str, Any]:
    """The classes that a fake-quantized Keras file names, for `tf.keras.utils.custom_object_scope`."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer
    from tensorflow_model_optimization.quantization import keras as tfmot
    from tensorflow_model_optimization.quantization.keras import QuantizeConfig, quantizers

    class QuantizeLayer(quantize_layer.QuantizeLayer):  # type: ignore[misc]
        """tfmot's, which hands on the mask of what it quantizes."""

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002
            return mask

    class QuantizeWrapperV2(tfmot.QuantizeWrapperV2):  # type: ignore[misc]
        """tfmot's, which hands on the mask that the layer in it would."""

        def call(self, inputs: Any, training: Any = None) -> Any:  # no layer with a kernel reads a mask
            return super().call(inputs, training=training)

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask) if self.layer.supports_masking else None

    class ChannelQuantizer(quantizers.Quantizer):  # type: ignore[misc]
        """Rounds a kernel to steps about zero, for each channel as small as its weights and their pairs allow.

        The steps are the kernel's own at every moment: no variable that could lag behind. With `keep_zeros` a weight
        that is zero gets no gradient, so that what pruning made zero stays so through any training. `inner` and
        `levels` are those of `pair_rule.steps`.
        """

        def __init__(self, axes: Sequence[int], keep_zeros: bool, inner: int, levels: int) -> None:
            self.axes = tuple(axes)
            self.keep_zeros = keep_zeros
            self.inner = inner
            self.levels = levels

        def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:  # noqa: ARG002
            return {}

        def __call__(self, inputs: Any, training: bool, weights: dict[str, Any], **kwargs: Any) -> Any:  # noqa: ARG002
            kernel = inputs
            if self.keep_zeros:
                kernel = inputs * tf.stop_gradient(tf.cast(inputs != 0, inputs.dtype))
            rows = as_rows(kernel, self.axes)  # the operation takes channels from the last axis
            limit = tf.stop_gradient(self.steps(rows) * LEVELS)
            quantized = tf.quantization.fake_quant_with_min_max_vars_per_channel(rows, -limit, limit, narrow_range=True)
            order = rows_first(kernel.shape, self.axes)
            return tf.transpose(tf.reshape(quantized, [kernel.shape[axis] for axis in order]), np.argsort(order))

        def steps(self, rows: Any) -> Any:
            """The size of each channel's steps, `(channels,)`, of a kernel in `as_rows`."""
            return steps(rows, self.inner, self.levels)

        def get_config(self) -> dict[str, Any]:
            return {"axes": self.axes, "keep_zeros": self.keep_zeros, "inner": self.inner, "levels": self.levels}

    class KernelConfig(QuantizeConfig):  # type: ignore[misc]
        """Tells tfmot's wrapper which attribute of a layer is quantized, and how."""

        def __init__(self, attribute: str, axes: Sequence[int], keep_zeros: bool, inner: int, levels: int) -> None:
            self.attribute = attribute
            self.quantizer = ChannelQuantizer(axes, keep_zeros, inner, levels)

        def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
            return [(getattr(layer, self.attribute), self.quantizer)]

        def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:  # noqa: ARG002
            return []

        def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
            setattr(layer, self.attribute, quantize_weights[0])

        def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
            pass  # activations are quantized by layers of their own

        def get_output_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002
            return []

        def get_config(self) -> dict[str, Any]:
            return {"attribute": self.attribute, **self.quantizer.get_config()}

    return {
        "ChannelQuantizer": ChannelQuantizer,
        "KernelConfig": KernelConfig,
        "FixedQuantizer": quantizers.FixedQuantizer,
        "MovingAverageQuantizer": quantizers.MovingAverageQuantizer,
        "QuantizeLayer": QuantizeLayer,
        "QuantizeWrapperV2": QuantizeWrapperV2,
    }


def fake_quantized(
    model: "tf.keras.Model",
    examples: np.ndarray,
    *,
    keep_zeros: bool = True,
    float_layers: Collection[str] = (),
    calibration: Calibration = "minmax",
    percentile: float = 99.99,
    bias_correction: bool = False,
    kernels: Kernels = "pairs",
    batch: int = 64,
) -> "tf.keras.Model":
    """The model with fake quantization around all that integer kernels can compute, its ranges set by examples.

    Ranges come from the values that the float model shows. tfmot's own would start at +-6 and move by a thousandth of
    each training batch: thousands of steps later they are still off, and a Relu whose range does not start at zero is
    no part of the kernel before it.

    Args:
        model: any graph of layers; what only training needs is left out.
        examples: raw inputs `(n, ...)`, float32, or records of them, that look like what the model will see.
        keep_zeros: weights that are zero stay zero through training.
        float_layers: names of layers that stay in float.
        calibration: how a range follows from the values; see `calibration.chosen_range`.
        percentile: for the calibration of that name, how many percent of the values stay inside.
        bias_correction: whether biases take back by how much rounding moved the means of layers' outputs.
        kernels: by which rule their steps are chosen. `full` and `half` are what others do, to measure the rule
            against: full steps may saturate on processors without VNNI.
        batch: how many examples are looked at together.

    Raises:
        ConversionError: the model is no graph of layers.

    """
    import tensorflow as tf

    ready = split(fold(model))
    probe = _placed(ready, keep_zeros, float_layers, kernels, probing=True)
    quantized = _placed(ready, keep_zeros, float_layers, kernels, probing=False)
    names = [layer.name for layer in quantized.layers if kind(layer) == "QuantizeLayer"]
    look = tf.keras.Model(probe.inputs, [probe.get_layer(name).output for name in names])
    for name, seen in zip(names, _seen(look, examples, batch, counting=calibration != "minmax"), strict=True):
        layer = quantized.get_layer(name)
        if kind_of_quantizer(layer) == "MovingAverageQuantizer":
            least, most = chosen_range(seen, calibration, percentile)
            layer.quantizer_vars["min_var"].assign(least)
            layer.quantizer_vars["max_var"].assign(most if most > least else 1.0)
    if bias_correction:
        correct_biases(quantized, ready, examples, batch)
    settle(quantized, float_layers)
    return quantized


def _seen(look: "tf.keras.Model", examples: np.ndarray, batch: int, *, counting: bool) -> list[Seen]:
    """What each output of a model shows: its ends, zero among them, and in a second pass its histogram."""
    import tensorflow as tf

    ask = tf.function(look)
    # zero is in every range: padding and Relu need it exactly
    low, high = np.zeros(len(look.outputs)), np.zeros(len(look.outputs))
    parts = (examples[start : start + batch] for start in range(0, len(examples), batch))
    batches = [tf.nest.map_structure(tf.constant, as_called(part)) for part in parts]
    for inputs in batches:
        outputs = tf.nest.flatten(ask(inputs, training=False))
        low = np.fmin(low, [np.fmin.reduce(tensor, axis=None) for tensor in outputs])
        high = np.fmax(high, [np.fmax.reduce(tensor, axis=None) for tensor in outputs])
    ranges = [Seen.between(float(least), float(most)) for least, most in zip(low, high, strict=True)]
    for inputs in batches if counting else ():
        for seen, tensor in zip(ranges, tf.nest.flatten(ask(inputs, training=False)), strict=True):
            if seen.high > seen.low:
                seen.add(tensor.numpy())
    return ranges


def _placed(
    model: "tf.keras.Model", keep_zeros: bool, float_layers: Collection[str], kernels: Kernels, *, probing: bool
) -> Any:
    """Range layers and kernel wrappers where the placement wants them; when probing, layers that do nothing."""
    import tensorflow as tf

    classes = custom_objects()
    placement = Placement(model, float_layers)
    copies = Copies()
    wrapped: dict[int, Any] = {}
    free = free_names(layer.name for layer in model.layers)
    # all of them first, also when probing: ranges have the same names in both models
    wrappers = {layer.name: free(f"{WRAPPED}{layer.name}") for layer in model.layers if kind(layer) in KERNELS}

    def with_range(layer: tf.keras.layers.Layer, tensor: Any) -> Any:
        if not tensor.dtype.is_floating:  # a mask, or numbers of steps
            return tensor
        name = free(f"{layer.name}{RANGE}")
        if probing:
            return tf.keras.layers.Activation("linear", name=name)(tensor)
        quantizer = classes["MovingAverageQuantizer"](8, per_axis=False, symmetric=False, narrow_range=False)
        if activation(layer) in PRESCRIBED:
            quantizer = classes["FixedQuantizer"](8, *PRESCRIBED[activation(layer)], narrow_range=False)
        return classes["QuantizeLayer"](quantizer, name=name)(tensor)

    def quantized_call(call: Call) -> Any:
        layer = call.layer
        if id(layer) in wrapped:
            return wrapped[id(layer)](*call.args)
        inner = type(layer).from_config(layer.get_config())
        meet = meeting(kind(layer), tuple(kernel_of(layer).shape)) if kernels == "pairs" else 0
        levels = HALF if kernels == "half" else LEVELS
        config = classes["KernelConfig"](*KERNELS[kind(layer)], keep_zeros, meet, levels)
        wrapped[id(layer)] = classes["QuantizeWrapperV2"](inner, config, name=wrappers[layer.name])
        output = wrapped[id(layer)](*call.args)
        kernel_variable(wrapped[id(layer)]).assign(layer.get_weights()[0])
        if layer.use_bias:
            inner.bias.assign(layer.bias)
        return output

    def answer(call: Call) -> Any:
        layer = call.layer
        if not probing and kind(layer) in KERNELS and placement.integer(layer):
            output = quantized_call(call)
        else:
            output = copies.call(layer, call.args, call.kwargs)
        if not placement.quantizes_output(call):
            return output
        return tf.nest.map_structure(lambda tensor: with_range(layer, tensor), output)

    def source(layer: tf.keras.layers.Layer, tensor: Any) -> Any:
        return with_range(layer, tensor) if placement.feeds(layer) else tensor

    return rebuild(model, answer, source)


def frozen(model: "tf.keras.Model") -> "tf.keras.Model":
    """A fake-quantized model as converters read it best: kernels are their rounded values, ranges are constants.

    tf2onnx cannot read a fake quantization by channel; the TFLite converter reads it in some places. What is written as
    integers is recognized by its values, which no converter changes: `kernel_steps`.
    """
    import tensorflow as tf

    classes = custom_objects()
    copies = Copies()

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) == "QuantizeWrapperV2":
            weights = [quantized_kernel(layer).numpy()]
            weights += [layer.layer.bias.numpy()] if layer.layer.use_bias else []
            return copies.call(layer.layer, call.args, call.kwargs, weights=weights)
        if kind(layer) == "QuantizeLayer" and kind_of_quantizer(layer) == "MovingAverageQuantizer":
            quantizer = classes["FixedQuantizer"](8, *nudged(layer), narrow_range=False)
            return classes["QuantizeLayer"](quantizer, name=layer.name)(*call.args)
        return copies.call(layer, call.args, call.kwargs)

    with tf.keras.utils.custom_object_scope(classes):
        return rebuild(model, answer)
