"""How the tensors of a fake-quantized model are quantized, read from its layers: kernels' values and steps, ranges."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.keras_graph.names import unpinned
from tasks.keras_graph.rebuild import KERNELS, kind
from tasks.quantization.kernel_steps import KernelSteps

if TYPE_CHECKING:
    import tensorflow as tf

STEPS = 255


def in_integers(model: "tf.keras.Model") -> list[str]:
    """The names that layers with integer kernels had in the model that was fake-quantized."""
    return [layer.layer.name for layer in model.layers if kind(layer) == "QuantizeWrapperV2"]


def is_fake_quantized(model: "tf.keras.Model") -> bool:
    """Whether the model has ranges, so that it can be lowered to integers."""
    return any(kind(layer) == "QuantizeLayer" for layer in model.layers)


def kind_of_quantizer(layer: "tf.keras.layers.Layer") -> str:
    """By what rule a range layer sets its range."""
    return type(layer.quantizer).__name__


def ends(layer: "tf.keras.layers.Layer") -> tuple[float, float]:
    """The range of a range layer, whether it is fixed or follows from values."""
    if kind_of_quantizer(layer) == "MovingAverageQuantizer":
        return nudged(layer)
    return layer.quantizer.init_min, layer.quantizer.init_max


def output_step(model: "tf.keras.Model", number: int = 0) -> float:
    """The step of a fake-quantized model's output; 0 if it is not quantized, as behind a layer in float."""
    layer = unpinned(model.outputs[number])._keras_history.layer
    if kind(layer) != "QuantizeLayer":
        return 0.0
    low, high = ends(layer)
    return (high - low) / STEPS


def nudged(layer: "tf.keras.layers.Layer") -> tuple[float, float]:
    """The range that a range layer really has: zero is one of its 256 steps."""
    least = float(layer.quantizer_vars["min_var"].numpy())
    most = float(layer.quantizer_vars["max_var"].numpy())
    scale = (most - least) / STEPS
    zero = min(max(round(-least / scale), 0), STEPS)
    return -zero * scale, (STEPS - zero) * scale


def kernel_variable(wrapper: "tf.keras.layers.Layer") -> "tf.Variable":
    """The variable behind a wrapper's kernel: the layer's own attribute holds the fake-quantized tensor."""
    return wrapper._weight_vars[0][0]


def quantized_kernel(wrapper: "tf.keras.layers.Layer") -> "tf.Tensor":
    """A wrapper's kernel in the values that it is rounded to."""
    _, quantizer, _ = wrapper._weight_vars[0]
    return quantizer(kernel_variable(wrapper), False, {})


def channel_steps(wrapper: "tf.keras.layers.Layer") -> np.ndarray:
    """The size of each channel's steps in a wrapper's kernel, `(channels,)`."""
    _, quantizer, _ = wrapper._weight_vars[0]
    sizes: np.ndarray = quantizer.steps(as_rows(kernel_variable(wrapper), quantizer.axes)).numpy()
    return sizes


def rows_first(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The order of a kernel's axes that has those of its channels last."""
    channels = [len(shape) + axis for axis in axes]
    return [axis for axis in range(len(shape)) if axis not in channels] + channels


def as_rows(kernel: "tf.Tensor", axes: Sequence[int]) -> "tf.Tensor":
    """A kernel as Keras has it as `(places * input channels, channels)`, in the order in which kernels take them."""
    import tensorflow as tf

    count = math.prod(kernel.shape[axis] for axis in axes)
    return tf.reshape(tf.transpose(kernel, rows_first(kernel.shape, axes)), (-1, count))


def kernel_steps(model: "tf.keras.Model") -> KernelSteps:
    """The kernels of a fake-quantized model with their steps, for who writes them as integers."""
    kernels = KernelSteps()
    for layer in model.layers:
        if kind(layer) == "QuantizeWrapperV2":
            _, axes = KERNELS[kind(layer.layer)]
            kernels.add(as_rows(quantized_kernel(layer), axes).numpy(), channel_steps(layer))
    return kernels
