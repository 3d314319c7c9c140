"""Random small graphs of the layers that Slimline takes: chains, residuals, dense blocks, gates, depthwise, nested.

A graph is a tuple of steps, so that one that failed can be kept in a test as it was printed.
"""

from typing import Any

from hypothesis import strategies as st
from small_models import settle_norms

IMAGE, BESIDE = (8, 8, 3), 4

Step = tuple[Any, ...]

activations = st.sampled_from([None, "relu", "relu6", "sigmoid", "tanh"])
channels = st.integers(2, 5)
sizes = st.sampled_from([1, 2, 3])
steps = st.one_of(
    st.tuples(st.just("conv"), channels, sizes, st.sampled_from([1, 2]), st.booleans(), activations),
    st.tuples(st.just("depthwise"), st.integers(1, 2), sizes, activations),
    st.tuples(st.just("separable"), channels, activations),
    st.tuples(st.just("transposed"), channels, activations),
    st.tuples(st.just("norm")),
    st.tuples(st.just("activation"), activations),
    st.tuples(st.just("pool"), st.sampled_from(["Max", "Average"]), sizes),
    st.tuples(st.just("pad"), st.integers(1, 2)),
    st.tuples(st.just("crop")),
    st.tuples(st.just("grow")),
    st.tuples(st.just("residual"), sizes, activations),
    st.tuples(st.just("concatenate"), channels),
    st.tuples(st.just("gate")),
    st.tuples(st.just("shared"), activations),
    st.tuples(st.just("nested"), channels),
    st.tuples(st.just("drop")),
)
heads = st.sampled_from(["none", "flat", "mean", "largest", "softmax"])


def built(graph: tuple[Step, ...], head: str) -> Any:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input(IMAGE, name="input")
    x = inputs
    for number, step in enumerate(graph):
        x = grown(tf.keras.layers, x, f"l{number}", *step)
    return settle_norms(tf.keras.Model(inputs, ended(tf.keras.layers, x, head), name="random"))


def with_beside(graph: tuple[Step, ...], head: str) -> Any:
    """A graph with a second input and a second output, to which its first step and that input go."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    inputs, beside = tf.keras.Input(IMAGE, name="input"), tf.keras.Input((BESIDE,), name="beside")
    tensors = [inputs]
    for number, step in enumerate(graph):
        tensors.append(grown(layers, tensors[-1], f"l{number}", *step))
    first = layers.GlobalAveragePooling2D(name="first_mean")(tensors[1])
    both = layers.Concatenate(name="both")([first, layers.Dense(3, activation="relu", name="told")(beside)])
    outputs = [layers.Dense(2, name="second")(both), ended(layers, tensors[-1], head)]
    return settle_norms(tf.keras.Model([inputs, beside], outputs, name="random"))


def ended(layers: Any, x: Any, head: str) -> Any:
    """What a graph of images ends in."""
    if head == "flat":
        x = layers.Dense(4, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
    elif head in ("mean", "softmax"):
        x = layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D(name="mean")(x))
    elif head == "largest":
        x = layers.Dense(3, name="dense")(layers.GlobalMaxPooling2D(name="largest")(x))
    if head == "softmax":
        x = layers.Softmax(name="softmax")(x)
    return x


def grown(layers: Any, x: Any, name: str, kind: str, *how: Any) -> Any:
    """One step further; a step that does not fit leaves the tensor as it is."""
    import tensorflow as tf

    height, count = x.shape[1], x.shape[-1]
    match kind:
        case "conv":
            filters, size, stride, same, activation = how
            padding = "same" if same or height < size else "valid"
            return layers.Conv2D(filters, size, stride, padding, activation=activation, name=name)(x)
        case "depthwise":
            times, size, activation = how
            return layers.DepthwiseConv2D(
                size, padding="same", depth_multiplier=times, activation=activation, name=name
            )(x)
        case "separable":
            return layers.SeparableConv2D(how[0], 3, padding="same", activation=how[1], name=name)(x)
        case "transposed":
            return layers.Conv2DTranspose(how[0], 2, 2, activation=how[1], name=name)(x) if height <= 16 else x
        case "norm":
            return layers.BatchNormalization(name=name)(x)
        case "activation":
            return layers.Activation(how[0] or "relu", name=name)(x)
        case "pool":
            pooling, size = how
            return getattr(layers, f"{pooling}Pooling2D")(size, name=name)(x) if height >= size else x
        case "pad":
            return layers.ZeroPadding2D(how[0], name=name)(x)
        case "crop":
            return layers.Cropping2D(1, name=name)(x) if height > 2 else x
        case "grow":
            return layers.UpSampling2D(2, name=name)(x) if height <= 16 else x
        case "residual":
            branch = layers.Conv2D(count, how[0], padding="same", name=f"{name}_conv")(x)
            branch = layers.BatchNormalization(name=f"{name}_norm")(branch)
            return layers.Activation(how[1] or "linear", name=f"{name}_after")(layers.Add(name=name)([x, branch]))
        case "concatenate":
            return layers.Concatenate(name=name)([x, layers.Conv2D(how[0], 1, name=f"{name}_conv")(x)])
        case "gate":
            gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
            gate = layers.Conv2D(count, 1, activation="sigmoid", name=f"{name}_gate")(gate)
            return layers.Multiply(name=name)([x, gate])
        case "shared":
            twice = layers.Conv2D(count, 3, padding="same", activation=how[0], name=name)
            return twice(twice(x))
        case "nested":
            within = tf.keras.Input(x.shape[1:], name=f"{name}_input")
            y = layers.Conv2D(how[0], 1, activation="relu", name=f"{name}_conv")(within)
            return tf.keras.Model(within, layers.BatchNormalization(name=f"{name}_norm")(y), name=name)(x)
        case _:
            return layers.Dropout(0.5, name=name)(x)


graphs = st.lists(steps, min_size=2, max_size=4).map(tuple)
