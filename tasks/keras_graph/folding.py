"""Models made ready for other runtimes: less to compute, and one thing at a time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.keras_graph.activations import activation_of
from tasks.keras_graph.rebuild import ACTIVATION, KERNELS, Call, Copies, flat, free_names, kind, rebuild
from tasks.keras_graph.steps import at_once
from tasks.keras_graph.training_calls import unanswerable

if TYPE_CHECKING:
    import tensorflow as tf

# Layers that do nothing at inference.
TRAINING_ONLY = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "RandomBrightness",
        "RandomContrast",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    }
)

# Convolutions of each channel alone, and then of all channels at one place.
SEPARABLE = frozenset({"SeparableConv1D", "SeparableConv2D"})


def fold(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function at inference with fewer layers: nested models in their place, batch normalisation folded.

    What is called at each step is called once for all of them: see `steps`.

    What converters cannot read, other settings or layers of Keras stand for: see `_readable`.

    A batch normalisation that follows nothing but a Dense or a convolution goes into its kernel and bias (Jacob et al.
    2018, section 3.2), and so does a factor for each channel. tf2onnx and the TFLite converter do the first for
    convolutions only. Zeros of a kernel stay zeros.

    Raises:
        ConversionError: the model is no graph of layers, or answers as in training.

    """
    if why := unanswerable(model):
        raise ConversionError(why)
    copies = Copies()
    folded: dict[int, tf.keras.layers.Layer] = {}

    def answer(call: Call) -> Any:
        if _drops(call) or id(call.layer) in folded:
            return call.args[0]
        if not _takes_next(call):
            return _readable(call, copies)
        folded[id(call.followers[0])] = call.followers[0]
        weights = _folded(call.layer, call.followers[0])
        return copies.call(call.layer, call.args, call.kwargs, weights=weights, use_bias=True)

    simpler = rebuild(at_once(flat(model)), answer)
    # a normalisation behind a factor now follows what took that in
    return fold(simpler) if any(map(_scales, folded.values())) else simpler


def _drops(call: Call) -> bool:
    """Whether a call's output is its input: the tensor, and the mask with it."""
    masked = getattr(call.args[0], "_keras_mask", None) is not None
    return kind(call.layer) in TRAINING_ONLY and (call.layer.supports_masking or not masked)


def _readable(call: Call, copies: Copies) -> Any:
    """A call's output, by layers without random numbers and sparse matrices."""
    import tensorflow as tf

    layer = call.layer
    if kind(layer) == "RandomCrop":  # one whose random numbers have no place in a file; this is what is left of it
        return tf.keras.layers.Resizing(layer.height, layer.width, crop_to_aspect_ratio=True, name=layer.name)(
            *call.args
        )
    if kind(layer).startswith("LocallyConnected") and layer.implementation == 3:
        wide = np.zeros(layer.kernel_shape, np.float32)  # (outputs, inputs)
        kernel, *bias = layer.get_weights()
        wide[tuple(np.transpose(layer.kernel_idxs))] = kernel
        sizes = (*call.args[0].shape[1:], *layer.compute_output_shape(call.args[0].shape)[1:])
        return copies.call(layer, call.args, call.kwargs, weights=[wide.T.reshape(sizes), *bias], implementation=2)
    return copies.call(layer, call.args, call.kwargs)


def _takes_next(call: Call) -> bool:
    """Whether a call's only follower is a line `x * factor + shift` of its channels, each used only here."""
    if len(call.followers) != 1 or call.leaves or call.uses != 1 or kind(call.layer) not in SEPARABLE.union(KERNELS):
        return False
    layer, follower = call.layer, call.followers[0]
    return (
        (_normalizes(follower, len(layer.output_shape) - 1) or _scales(follower))
        and len(follower._inbound_nodes) == 1
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and activation_of(layer) == "linear"
    )


def _normalizes(layer: "tf.keras.layers.Layer", axis: int) -> bool:
    return kind(layer) == "BatchNormalization" and list(layer.axis) == [axis]


def _scales(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer only multiplies each channel of an image by a number."""
    return (
        kind(layer) == "DepthwiseConv2D"
        and (layer.kernel_size, layer.strides, layer.depth_multiplier) == ((1, 1), (1, 1), 1)
        and layer.data_format == "channels_last"
        and not layer.use_bias
        and activation_of(layer) == "linear"
    )


def _line(layer: "tf.keras.layers.Layer") -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of each channel, `(channels,)` each."""
    if _scales(layer):
        factor = layer.depthwise_kernel.numpy().reshape(-1).astype(np.float64)
        return factor, np.zeros_like(factor)
    factor = 1 / np.sqrt(layer.moving_variance.numpy().astype(np.float64) + layer.epsilon)
    if layer.scale:
        factor *= layer.gamma.numpy()
    return factor, (layer.beta.numpy() if layer.center else 0) - layer.moving_mean.numpy() * factor


def _folded(layer: "tf.keras.layers.Layer", follower: "tf.keras.layers.Layer") -> list[np.ndarray]:
    """Weights that do what the layer and the line after it did; the last kernel is the one that changes."""
    factor, shift = _line(follower)
    *before, kernel = layer.get_weights()[: -1 if layer.use_bias else None]
    bias = layer.bias.numpy() if layer.use_bias else 0
    by_channel: tuple[int, ...] = (-1,)
    if kind(layer) == "DepthwiseConv2D":
        by_channel = kernel.shape[-2:]  # output channels are counted over input channel and multiplier
    elif kind(layer) == "Conv2DTranspose":
        by_channel = (-1, 1)
    return [
        *before,
        (kernel * factor.reshape(by_channel)).astype(np.float32),
        (bias * factor + shift).astype(np.float32),
    ]


def split(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function with one thing a layer: activations stand alone, separable convolutions are two.

    Depthwise and separable ones over sequences become the like over images of width one, which have integer kernels.

    A pooling window over the whole image becomes a mean: LiteRT's integer pooling has averages in the steps of what
    it averages, which are far too coarse for them; its mean has steps of its own.

    The model has to be flat. The layer that makes a separable convolution's outputs keeps its name.
    """
    import tensorflow as tf

    copies = Copies()
    activations: dict[int, Any] = {}
    free = free_names(layer.name for layer in model.layers)

    def activated(layer: "tf.keras.layers.Layer", tensor: Any) -> Any:
        if activation_of(layer) == "linear":
            return tensor
        if id(layer) not in activations:
            activations[id(layer)] = tf.keras.layers.Activation(
                layer.activation, name=free(f"{layer.name}{ACTIVATION}")
            )
        return activations[id(layer)](tensor)

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) == "SeparableConv2D" and call.uses == 1:
            return activated(layer, _separated(layer, call.args[0], free))
        if _over_sequence(layer) and call.uses == 1:
            return activated(layer, _as_column(layer, call.args[0], free))
        if kind(layer) == "AveragePooling2D" and _takes_all(layer):
            mean = tf.keras.layers.GlobalAveragePooling2D(data_format=layer.data_format, keepdims=True, name=layer.name)
            return mean(call.args[0])
        if kind(layer) not in KERNELS:
            return copies.call(layer, call.args, call.kwargs)
        return activated(layer, copies.call(layer, call.args, call.kwargs, activation="linear"))

    return rebuild(model, answer)


def _takes_all(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a pooling window is as large as the image, and there is one of them: padding would make more."""
    places = slice(1, 3) if layer.data_format == "channels_last" else slice(2, 4)
    return tuple(layer.pool_size) == tuple(layer.input_shape[places]) and layer.output_shape[places] == (1, 1)


def _separated(layer: "tf.keras.layers.Layer", tensor: Any, free: Callable[[str], str]) -> Any:
    """A separable convolution as the depthwise and the pointwise one that it consists of."""
    import tensorflow as tf

    depthwise = tf.keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        name=free(f"{layer.name}_depthwise"),
    )
    pointwise = tf.keras.layers.Conv2D(
        layer.filters, 1, data_format=layer.data_format, use_bias=layer.use_bias, name=layer.name
    )
    output = pointwise(depthwise(tensor))
    depthwise.set_weights(layer.get_weights()[:1])
    pointwise.set_weights(layer.get_weights()[1:])
    return output


def _over_sequence(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer is a depthwise or separable convolution over a sequence that `_as_column` can write."""
    return (
        kind(layer) in ("DepthwiseConv1D", "SeparableConv1D")
        and layer.data_format == "channels_last"
        and layer.dilation_rate == (1,)
        and layer.input_shape[1] is not None
    )


def _as_column(layer: "tf.keras.layers.Layer", sequence: Any, free: Callable[[str], str]) -> Any:
    """A convolution over a sequence `(batch, steps, channels)` as one over `(batch, steps, 1, channels)`."""
    import tensorflow as tf

    layers = tf.keras.layers
    separable = kind(layer) == "SeparableConv1D"
    (size,), (stride,), padding = layer.kernel_size, layer.strides, layer.padding
    column = layers.Reshape((sequence.shape[1], 1, sequence.shape[2]), name=free(f"{layer.name}_column"))(sequence)
    if padding == "causal":
        column = layers.ZeroPadding2D(((size - 1, 0), (0, 0)), name=free(f"{layer.name}_before"))(column)
        padding = "valid"
    depthwise = layers.DepthwiseConv2D(
        (size, 1),
        strides=stride,
        padding=padding,
        depth_multiplier=layer.depth_multiplier,
        use_bias=layer.use_bias and not separable,
        name=free(f"{layer.name}_depthwise") if separable else layer.name,
    )
    column = depthwise(column)
    weights = layer.get_weights()
    depthwise.set_weights([weights[0][:, None], *([] if separable else weights[1:])])
    if separable:
        pointwise = layers.Conv2D(layer.filters, 1, use_bias=layer.use_bias, name=layer.name)
        column = pointwise(column)
        pointwise.set_weights([weights[1][:, None], *weights[2:]])
    return layers.Reshape((column.shape[1], column.shape[3]), name=free(f"{layer.name}_row"))(column)
