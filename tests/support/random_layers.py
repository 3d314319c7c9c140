"""Random small models of all that Slimline takes, on images and on sequences: layers beside those of `random_graphs`.

A graph is a tuple of steps, so that one that failed can be kept in a test as it was printed.
"""

from typing import Any

import numpy as np
import random_graphs
from hypothesis import strategies as st
from small_models import settle_norms

IMAGE, SEQUENCE = random_graphs.IMAGE, (6, 5)
STEEP = 20.0  # times as large as the other branch

smooth = st.sampled_from(["swish", "gelu", "hard_sigmoid", "elu", "selu", "softplus", "softsign", "exponential"])
some = st.sampled_from([None, "relu", "tanh", "sigmoid", "swish"])
units = st.integers(2, 6)
padding = st.sampled_from(["same", "valid"])
merges = st.sampled_from(["Maximum", "Minimum", "Average", "Subtract", "Multiply", "Concatenate", "Add"])

image_steps = st.one_of(
    random_graphs.steps,
    st.tuples(st.just("groups"), st.integers(1, 3), some),
    st.tuples(st.just("dilated"), units, st.sampled_from([2, 3])),
    st.tuples(st.just("oblong"), units, st.sampled_from([(1, 3), (3, 1), (2, 3)]), padding),
    st.tuples(st.just("smooth"), smooth),
    st.tuples(st.just("leaky"), st.sampled_from([0.0, 0.1, 0.3])),
    st.tuples(st.just("prelu"), st.booleans()),
    st.tuples(st.just("layer_norm")),
    st.tuples(st.just("group_norm")),
    st.tuples(st.just("resize"), st.sampled_from(["nearest", "bilinear"])),
    st.tuples(st.just("smoothed"), st.sampled_from(["Max", "Average"]), st.sampled_from([2, 3]), padding),
    st.tuples(st.just("merge"), merges, st.booleans()),
    st.tuples(st.just("stretched"), st.sampled_from([2, 3]), st.sampled_from([3, 4]), padding),
    st.tuples(st.just("rescaled"), st.sampled_from([0.02, 3.0]), st.sampled_from([-1.0, 0.5])),
    st.tuples(st.just("turned")),
    st.tuples(st.just("softmax")),
)
image_graphs = st.lists(image_steps, min_size=2, max_size=5).map(tuple)

sequence_steps = st.one_of(
    st.tuples(st.just("dense"), units, some),
    st.tuples(st.just("conv"), units, st.sampled_from([2, 3]), st.sampled_from(["same", "valid", "causal"]), some),
    st.tuples(st.just("strided"), units, padding),
    st.tuples(st.just("depthwise"), some),
    st.tuples(st.just("separable"), units, some),
    st.tuples(st.just("recurrent"), st.sampled_from(["LSTM", "GRU", "SimpleRNN"]), st.integers(2, 4), st.booleans()),
    st.tuples(st.just("old_gru"), st.integers(2, 4)),
    st.tuples(st.just("both_ways"), st.sampled_from(["LSTM", "GRU"]), st.sampled_from(["concat", "sum", "mul"])),
    st.tuples(st.just("attention"), st.integers(1, 2), st.integers(2, 3)),
    st.tuples(st.just("norm")),
    st.tuples(st.just("layer_norm")),
    st.tuples(st.just("residual"), some),
    st.tuples(st.just("merge"), merges, st.booleans()),
    st.tuples(st.just("pool"), st.sampled_from(["Max", "Average"]), padding),
    st.tuples(st.just("pad")),
    st.tuples(st.just("crop")),
    st.tuples(st.just("grow")),
    st.tuples(st.just("each"), units),
    st.tuples(st.just("smooth"), smooth),
    st.tuples(st.just("turned")),
)
sequence_graphs = st.lists(sequence_steps, min_size=1, max_size=4).map(tuple)
sequence_ends = st.sampled_from(["none", "flat", "mean", "largest", "last"])


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (count, *IMAGE)).astype(np.float32)


def sequences(count: int) -> np.ndarray:
    """With lengths of all kinds: what is behind the end is 0, and the first has no end."""
    draw = np.random.default_rng(1)
    x = draw.normal(0, 1, (count, *SEQUENCE)).astype(np.float32)
    for row, length in zip(x[1:], draw.integers(1, SEQUENCE[0] + 1, count - 1), strict=True):
        row[length:] = 0
    return x


def image_model(graph: tuple[Any, ...], head: str) -> Any:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = x = tf.keras.Input(IMAGE, name="input")
    for number, step in enumerate(graph):
        x = on_image(tf, x, f"l{number}", *step)
    return settle_norms(tf.keras.Model(inputs, random_graphs.ended(tf.keras.layers, x, head), name="random"))


def sequence_model(graph: tuple[Any, ...], end: str, *, masked: bool) -> Any:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    inputs = x = tf.keras.Input(SEQUENCE, name="input")
    if masked:
        x = layers.Masking(name="mask")(x)
    for number, step in enumerate(graph):
        x = on_sequence(layers, x, f"l{number}", *step)
    if end == "flat":
        x = layers.Dense(3, activation="softmax", name="dense")(layers.Flatten(name="flat")(x))
    elif end in ("mean", "largest"):
        pool = layers.GlobalAveragePooling1D if end == "mean" else layers.GlobalMaxPooling1D
        x = layers.Dense(3, name="dense")(pool(name=end)(x))
    elif end == "last":
        x = layers.Dense(3, name="dense")(layers.LSTM(3, name="last")(x))
    return settle_norms(tf.keras.Model(inputs, x, name="random"))


def on_image(tf: Any, x: Any, name: str, kind: str, *how: Any) -> Any:
    """One step further; a step that does not fit leaves the tensor as it is."""
    layers, (height, width, count) = tf.keras.layers, x.shape[1:]
    match kind:
        case "groups":
            return layers.Conv2D(count * how[0], 3, padding="same", groups=count, activation=how[1], name=name)(x)
        case "dilated":
            return layers.Conv2D(how[0], 3, padding="same", dilation_rate=how[1], name=name)(x)
        case "oblong":
            fits = height >= how[1][0] and width >= how[1][1]
            return layers.Conv2D(how[0], how[1], padding=how[2], name=name)(x) if fits else x
        case "layer_norm":
            return layers.LayerNormalization(name=name)(x)
        case "group_norm":
            return layers.GroupNormalization(count if count % 2 else 2, name=name)(x)
        case "resize":
            return layers.UpSampling2D(2, interpolation=how[0], name=name)(x) if height <= 16 else x
        case "smoothed":
            pool, size, around = how
            fits = around == "same" or min(height, width) >= size
            return getattr(layers, f"{pool}Pooling2D")(size, 1, padding=around, name=name)(x) if fits else x
        case "merge":
            branch = layers.Conv2D(count, 1, name=f"{name}_conv")(x)
            return _merged(layers, x, branch, name, *how)
        case "stretched":
            stride, size, around = how
            again = layers.Conv2DTranspose(3, size, stride, padding=around, name=name)
            return again(x) if height <= 12 else x
        case "turned":
            return layers.Permute((2, 1, 3), name=name)(x)
        case _ if (anywhere := _anywhere(layers, x, name, kind, *how)) is not None:
            return anywhere
    return random_graphs.grown(layers, x, name, kind, *how)


def on_sequence(layers: Any, x: Any, name: str, kind: str, *how: Any) -> Any:
    """One step further; a step that does not fit leaves the tensor as it is."""
    steps, count = x.shape[1:]
    match kind:
        case "dense":
            return layers.Dense(how[0], activation=how[1], name=name)(x)
        case "conv":
            filters, size, around, activation = how
            conv = layers.Conv1D(filters, size, padding=around, activation=activation, name=name)
            return conv(x) if steps >= size else x
        case "strided":
            return layers.Conv1D(how[0], 3, 2, padding=how[1], name=name)(x) if steps >= 3 else x
        case "depthwise":
            return layers.DepthwiseConv1D(3, padding="same", activation=how[0], name=name)(x)
        case "separable":
            return layers.SeparableConv1D(how[0], 3, padding="same", activation=how[1], name=name)(x)
        case "recurrent":
            cell, size, backwards = how
            return getattr(layers, cell)(size, return_sequences=True, go_backwards=backwards, name=name)(x)
        case "old_gru":
            return layers.GRU(how[0], return_sequences=True, reset_after=False, name=name)(x)
        case "both_ways":
            inside = getattr(layers, how[0])(3, return_sequences=True, name=f"{name}_cell")
            return layers.Bidirectional(inside, merge_mode=how[1], name=name)(x)
        case "attention":
            return layers.MultiHeadAttention(*how, name=name)(x, x)
        case "norm":
            return layers.BatchNormalization(name=name)(x)
        case "layer_norm":
            return layers.LayerNormalization(name=name)(x)
        case "residual":
            return layers.Add(name=name)([x, layers.Dense(count, activation=how[0], name=f"{name}_dense")(x)])
        case "merge":
            return _merged(layers, x, layers.Dense(count, name=f"{name}_dense")(x), name, *how)
        case "pool":
            return getattr(layers, f"{how[0]}Pooling1D")(2, padding=how[1], name=name)(x) if steps >= 2 else x
        case "pad":
            return layers.ZeroPadding1D(1, name=name)(x)
        case "crop":
            return layers.Cropping1D(1, name=name)(x) if steps > 2 else x
        case "grow":
            return layers.UpSampling1D(2, name=name)(x) if steps <= 20 else x
        case "each":
            return layers.TimeDistributed(layers.Dense(how[0], name=f"{name}_dense"), name=name)(x)
        case "turned":
            return layers.Permute((2, 1), name=name)(x)
    return _anywhere(layers, x, name, kind, *how)


def _anywhere(layers: Any, x: Any, name: str, kind: str, *how: Any) -> Any:
    match kind:
        case "smooth":
            return layers.Activation(how[0], name=name)(x)
        case "leaky":
            return layers.LeakyReLU(how[0], name=name)(x)
        case "prelu":
            axes = list(range(1, len(x.shape) - 1)) if how[0] else None
            return layers.PReLU("uniform", shared_axes=axes, name=name)(x)
        case "rescaled":
            return layers.Rescaling(*how, name=name)(x)
        case "softmax":
            return layers.Softmax(name=name)(x)
    return None


def _merged(layers: Any, x: Any, branch: Any, name: str, how: str, steep: bool) -> Any:
    """Two branches in one, of like or of unlike scale."""
    if steep:
        branch = layers.Rescaling(STEEP, name=f"{name}_steep")(branch)
    return getattr(layers, how)(name=name)([x, branch])
