"""What each kind of layer does with channels: where those of its output come from, and what of its weights they own.

A tensor's channels, those along its last axis, are known by numbers `(channels,)`. Numbers that are joined stand or
fall together. What no rule speaks of keeps all its channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.keras_graph.activations import activation_of
from tasks.keras_graph.folding import TRAINING_ONLY
from tasks.keras_graph.rebuild import kind

if TYPE_CHECKING:
    import tensorflow as tf

Numbers = npt.NDArray[np.int64]
ChannelMask = npt.NDArray[np.bool_]
Shape = tuple[int, ...]  # of one example
Cut = tuple[dict[str, Any], list[npt.NDArray[Any]]]  # what changes in a layer's config, and its weights
KEPT = 0  # whatever is joined with this number stays

# Functions of each value alone; softmax and its like look at all channels at once.
ELEMENTWISE = frozenset(
    {"elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "mish", "relu", "relu6", "selu", "sigmoid"}
    | {"silu", "softplus", "softsign", "swish", "tanh"}
)


class Channels:
    """Numbers of channels, and which of them are joined (union-find)."""

    def __init__(self) -> None:
        self._parents = [KEPT]

    def new(self, count: int) -> Numbers:
        """Channels that nothing is known of yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, some: Numbers, others: Numbers | int) -> None:
        """Channels at the same places stand or fall together; `KEPT` for others keeps them all."""
        for one, other in np.broadcast(some, others):
            low, high = sorted((self.root(int(one)), self.root(int(other))))
            self._parents[high] = low  # the smallest number leads, so that `KEPT` always does

    def root(self, number: int) -> int:
        """The number that leads those that a number is joined with."""
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def roots(self, numbers: Numbers) -> Numbers:
        """Each one's leading number."""
        return np.array([self.root(int(number)) for number in numbers], np.int64)


@dataclass(frozen=True)
class Rule:
    """A kind of layer.

    follow: the numbers `(channels,)` of the output, from the layer, its inputs' numbers and the book of all; None where
        this layer cannot be followed.
    cut: what changes in the layer's config and its weights, from the layer and which channels of its first input and of
        its output stay.
    own: whether the weights decide about a channel's worth: `(…, channels)`, those that make each output channel.
    work: multiply-accumulates for one example, from the layer, the shapes before and after, and how many channels of
        each stay; only of layers that multiply.
    reads: whether it sums over its input's channels, so that here a channel is used up.
    """

    follow: Callable[["tf.keras.layers.Layer", list[Numbers], Channels], Numbers | None]
    cut: Callable[["tf.keras.layers.Layer", ChannelMask, ChannelMask], Cut]
    own: Callable[["tf.keras.layers.Layer"], npt.NDArray[Any]] | None = None
    work: Callable[["tf.keras.layers.Layer", Shape, Shape, int, int], int] | None = None
    reads: bool = False


def rule_for(layer: "tf.keras.layers.Layer") -> Rule | None:
    """How a layer treats channels; nothing if that is not known."""
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    return RULES.get(kind(layer))


def mixes(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer's activation may look at several channels at once, so that those of its output stay together."""
    return activation_of(layer) not in ELEMENTWISE


def _same(_: Any, inputs: list[Numbers], __: Channels) -> Numbers:
    return inputs[0]


def _joined(_: Any, inputs: list[Numbers], channels: Channels) -> Numbers | None:
    """Tensors that meet value by value; one channel alone meets them all, and changes nothing about them."""
    count = max(map(len, inputs))
    wide = [numbers for numbers in inputs if len(numbers) == count]
    if count > 1:
        for numbers in inputs:
            if len(numbers) != count:
                channels.join(numbers, KEPT)
    for numbers in wide[1:]:
        channels.join(wide[0], numbers)
    return wide[0]


def _concatenated(layer: Any, inputs: list[Numbers], channels: Channels) -> Numbers | None:
    rank = len(layer.output_shape)
    return np.concatenate(inputs) if layer.axis % rank == rank - 1 else _joined(layer, inputs, channels)


def _new(layer: Any, _: list[Numbers], channels: Channels) -> Numbers:
    return channels.new(layer.output_shape[-1])


def _convolved(layer: Any, inputs: list[Numbers], channels: Channels) -> Numbers:
    """New channels; those of a group go with its inputs, so that every group stays as wide as the others."""
    made = channels.new(layer.filters)
    if layer.groups > 1:
        ends = zip(np.split(inputs[0], layer.groups), np.split(made, layer.groups), strict=True)
        for group_inputs, group_outputs in ends:
            channels.join(group_inputs, int(group_outputs[0]))
            channels.join(group_outputs, int(group_outputs[0]))
    return made


def _depthwise(layer: Any, inputs: list[Numbers], _: Channels) -> Numbers:
    return np.repeat(inputs[0], layer.depth_multiplier)


def _normalized(layer: Any, inputs: list[Numbers], _: Channels) -> Numbers | None:
    return inputs[0] if list(layer.axis) == [len(layer.output_shape) - 1] and not layer.renorm else None


def _reshaped(layer: Any, inputs: list[Numbers], _: Channels) -> Numbers | None:
    """Channels that still lie along the last axis: at all places the same ones, or those of all places in a row."""
    before, after = layer.input_shape[1:], layer.output_shape[1:]
    if None in before or None in after:
        return None
    moved = np.broadcast_to(inputs[0], before).reshape(-1, after[-1] if after else 1)
    return moved[0].copy() if (moved == moved[0]).all() else None


def _keep(_: Any, __: ChannelMask, ___: ChannelMask) -> Cut:
    return {}, []


def _cut_last(layer: Any, _: ChannelMask, outputs: ChannelMask) -> Cut:
    """Weights with a value for each channel along their last axis, or one for all."""
    weights = layer.get_weights()
    return {}, [weight[..., outputs] if weight.shape[-1] == len(outputs) else weight for weight in weights]


def _cut_convolution(layer: Any, inputs: ChannelMask, outputs: ChannelMask) -> Cut:
    kernel, *bias = layer.get_weights()
    groups = layer.groups
    if groups > 1:
        groups = int(outputs.reshape(groups, -1).any(axis=1).sum())
    else:
        kernel = kernel[..., inputs, :]
    changes = {"filters": int(outputs.sum()), "groups": groups}
    return changes, [kernel[..., outputs], *(each[outputs] for each in bias)]


def _cut_transposed(layer: Any, inputs: ChannelMask, outputs: ChannelMask) -> Cut:
    kernel, *bias = layer.get_weights()  # (…, outputs, inputs)
    return {"filters": int(outputs.sum())}, [kernel[..., outputs, :][..., inputs], *(each[outputs] for each in bias)]


def _cut_depthwise(layer: Any, inputs: ChannelMask, outputs: ChannelMask) -> Cut:
    kernel, *bias = layer.get_weights()  # (…, inputs, multiplier)
    return {}, [kernel[..., inputs, :], *(each[outputs] for each in bias)]


def _cut_separable(layer: Any, inputs: ChannelMask, outputs: ChannelMask) -> Cut:
    depthwise, pointwise, *bias = layer.get_weights()
    between = np.repeat(inputs, layer.depth_multiplier)
    weights = [depthwise[..., inputs, :], pointwise[..., between, :][..., outputs], *(each[outputs] for each in bias)]
    return {"filters": int(outputs.sum())}, weights


def _cut_dense(layer: Any, inputs: ChannelMask, outputs: ChannelMask) -> Cut:
    kernel, *bias = layer.get_weights()
    return {"units": int(outputs.sum())}, [kernel[inputs][:, outputs], *(each[outputs] for each in bias)]


def _cut_reshape(layer: Any, _: ChannelMask, outputs: ChannelMask) -> Cut:
    return {"target_shape": (*layer.output_shape[1:-1], int(outputs.sum()))}, []


def _kernel(layer: Any) -> npt.NDArray[Any]:
    return np.asarray(layer.get_weights()[0])


def _transposed_kernel(layer: Any) -> npt.NDArray[Any]:
    return np.swapaxes(layer.get_weights()[0], -1, -2)


def _depthwise_kernel(layer: Any) -> npt.NDArray[Any]:
    kernel = layer.get_weights()[0]
    return np.asarray(kernel).reshape(*kernel.shape[:-2], math.prod(kernel.shape[-2:]))


def _pointwise_kernel(layer: Any) -> npt.NDArray[Any]:
    return np.asarray(layer.get_weights()[1])


def _convolving(layer: Any, _: Shape, after: Shape, inputs: int, outputs: int) -> int:
    read = inputs if layer.groups == 1 else layer.kernel.shape[-2]
    return math.prod((*after[:-1], *layer.kernel_size, read, outputs))


def _transposing(layer: Any, before: Shape, _: Shape, inputs: int, outputs: int) -> int:
    return math.prod((*before[:-1], *layer.kernel_size, inputs, outputs))


def _depthwise_work(layer: Any, _: Shape, after: Shape, __: int, outputs: int) -> int:
    return math.prod((*after[:-1], *layer.kernel_size, outputs))


def _separable_work(layer: Any, _: Shape, after: Shape, inputs: int, outputs: int) -> int:
    return math.prod((*after[:-1], inputs, layer.depth_multiplier, math.prod(layer.kernel_size) + outputs))


def _dense_work(_: Any, __: Shape, after: Shape, inputs: int, outputs: int) -> int:
    return math.prod((*after[:-1], inputs, outputs))


PASSES = Rule(_same, _keep)
MEETS = Rule(_joined, _keep)
CONVOLVES = Rule(_convolved, _cut_convolution, _kernel, _convolving, reads=True)
SEPARATES = Rule(_new, _cut_separable, _pointwise_kernel, _separable_work, reads=True)
DEPTHWISE = Rule(_depthwise, _cut_depthwise, _depthwise_kernel, _depthwise_work)
TRANSPOSES = Rule(_new, _cut_transposed, _transposed_kernel, _transposing, reads=True)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), CONVOLVES),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), TRANSPOSES),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), SEPARATES),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), DEPTHWISE),
    "Dense": Rule(_new, _cut_dense, _kernel, _dense_work, reads=True),
    "BatchNormalization": Rule(_normalized, _cut_last),
    "PReLU": Rule(_same, _cut_last),
    **dict.fromkeys(("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"), MEETS),
    "Concatenate": Rule(_concatenated, _keep),
    "Flatten": Rule(_reshaped, _keep),
    "Reshape": Rule(_reshaped, _cut_reshape),
    **dict.fromkeys(
        (
            *TRAINING_ONLY,
            *("Activation", "ELU", "LeakyReLU", "ReLU", "ThresholdedReLU"),
            *("AveragePooling1D", "AveragePooling2D", "MaxPooling1D", "MaxPooling2D"),
            *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
            *("Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D"),
        ),
        PASSES,
    ),
}
