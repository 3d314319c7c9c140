"""The blocks that convolutional architectures are made of, in the order that fake quantization folds."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf

Size = int | tuple[int, int]

# Of batch norm's moving averages. Keras' 0.99 takes hundreds of steps to forget where it began, and a small data set
# has twenty an epoch: the first epochs, and each stage's few, would be judged by averages that are still on their way.
MOMENTUM = 0.9


class InvertedStage(NamedTuple):
    """How many times a block widens its channels, its window, its channels at width 1, how often it stands, strides."""

    expansion: int
    kernel: int
    channels: int
    times: int
    strides: int

    def deeper(self, depth: float) -> "InvertedStage":
        """The same, with its blocks so many times as often."""
        return self._replace(times=deepened(self.times, depth))


def widened(channels: int, width: float) -> int:
    """So many channels at this width; at least one."""
    return max(1, round(channels * width))


def deepened(count: int, depth: float) -> int:
    """So many blocks at this depth, rounded up as Tan and Le (2019) do."""
    return math.ceil(count * depth)


def convolution(
    x: "tf.Tensor",
    filters: int,
    kernel: Size,
    strides: Size,
    name: str,
    *,
    norm: bool = True,
    relu: bool = True,
    ceiling: float | None = None,
) -> "tf.Tensor":
    """Convolution, batch norm, ReLU: `(batch, height, width, channels)` to `(batch, height / strides, …, filters)`."""
    import tensorflow as tf

    layers = tf.keras.layers
    x = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    if norm:
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU(ceiling, name=f"{name}_relu")(x) if relu else x


def residual(x: "tf.Tensor", filters: int, strides: int, name: str) -> "tf.Tensor":
    """Two 3x3 convolutions and a way past them (He et al., 2016), which has a convolution too if it has to shrink."""
    import tensorflow as tf

    layers = tf.keras.layers
    y = convolution(x, filters, 3, strides, f"{name}_first")
    y = convolution(y, filters, 3, 1, f"{name}_second", relu=False)
    if strides > 1:
        x = convolution(x, filters, 1, strides, f"{name}_past", norm=False, relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def separable(x: "tf.Tensor", filters: int, strides: Size, name: str) -> "tf.Tensor":
    """Depthwise 3x3, batch norm, ReLU, then the same pointwise (Howard et al., 2017)."""
    return convolution(depthwise(x, 3, strides, name), filters, 1, 1, f"{name}_pointwise")


def depthwise(x: "tf.Tensor", kernel: Size, strides: Size, name: str, *, ceiling: float | None = None) -> "tf.Tensor":
    """Depthwise convolution, batch norm, ReLU, each channel by itself."""
    import tensorflow as tf

    layers = tf.keras.layers
    x = layers.DepthwiseConv2D(
        kernel, strides=strides, padding="same", depthwise_initializer="he_normal", name=f"{name}_depthwise_conv"
    )(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_depthwise_norm")(x)
    return layers.ReLU(ceiling, name=f"{name}_depthwise_relu")(x)


def inverted(x: "tf.Tensor", filters: int, expansion: int, kernel: int, strides: int, name: str) -> "tf.Tensor":
    """Pointwise to so many times the channels, depthwise, and pointwise back, with a way past it where shapes allow.

    The inverted residual of Sandler et al. (2018): ReLU6 in its wide part, none at its narrow end.
    """
    import tensorflow as tf

    y = x
    if expansion > 1:
        y = convolution(x, expansion * x.shape[-1], 1, 1, f"{name}_expand", ceiling=6.0)
    y = depthwise(y, kernel, strides, name, ceiling=6.0)
    y = convolution(y, filters, 1, 1, f"{name}_project", relu=False)
    return tf.keras.layers.Add(name=f"{name}_add")([x, y]) if strides == 1 and x.shape[-1] == filters else y


def inverted_stages(x: "tf.Tensor", stages: Iterable[InvertedStage], width: float) -> "tf.Tensor":
    """Stages of inverted residuals one after the other, block1, block2, …; the first block of each has its strides."""
    number = 0
    for stage in stages:
        for place in range(stage.times):
            number += 1
            strides = 1 if place else stage.strides
            x = inverted(x, widened(stage.channels, width), stage.expansion, stage.kernel, strides, f"block{number}")
    return x


def pooled(x: "tf.Tensor") -> "tf.Tensor":
    """The mean over all positions: `(batch, height, width, channels)` to `(batch, channels)`.

    As a pooling window over the whole image, which every runtime has an integer kernel for, unlike a reduction.
    """
    import tensorflow as tf

    x = tf.keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    return tf.keras.layers.Flatten(name="features")(x)


def flat(x: "tf.Tensor") -> "tf.Tensor":
    """Any shape as `(batch, values)`."""
    import tensorflow as tf

    return x if len(x.shape) == 2 else tf.keras.layers.Flatten(name="features")(x)
