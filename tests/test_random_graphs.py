"""Random small graphs of the layers that Slimline takes, each through fake quantization, every format, and its audit.

A graph is a tuple of steps, so that one that failed can be kept below as it was printed.
"""

from typing import Any

import numpy as np
from hypothesis import assume, example, given, note, settings
from hypothesis import strategies as st
from small_models import settle_norms

from tasks.formats import FORMATS
from tasks.ranges import fake_quantized, is_fake_quantized

TARGETS = ("onnxruntime", "litert", "savedmodel")
IMAGE = (8, 8, 3)
X = np.random.default_rng(0).normal(0, 1, (32, *IMAGE)).astype(np.float32)

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
    layers = tf.keras.layers
    if head == "flat":
        x = layers.Dense(4, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
    elif head in ("mean", "softmax"):
        x = layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D(name="mean")(x))
    elif head == "largest":
        x = layers.Dense(3, name="dense")(layers.GlobalMaxPooling2D(name="largest")(x))
    if head == "softmax":
        x = layers.Softmax(name="softmax")(x)
    return settle_norms(tf.keras.Model(inputs, x, name="random"))


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


@settings(max_examples=5, deadline=None)
@given(graph=st.lists(steps, min_size=2, max_size=4).map(tuple), head=heads)
@example(graph=(("residual", 2, "tanh"),), head="none")
@example(
    graph=(("depthwise", 2, 1, "sigmoid"), ("shared", "relu"), ("concatenate", 4), ("separable", 5, "tanh")),
    head="softmax",
)
@example(graph=(("transposed", 3, "relu6"), ("gate",), ("pad", 1), ("nested", 3)), head="flat")
def test_any_graph_answers_the_same_in_every_format(graph, head, tmp_path_factory):
    model = built(graph, head)
    held = fake_quantized(model, X)
    assume(is_fake_quantized(held))  # something in it multiplies
    for precision, source in (("float32", model), ("int8", held)):
        wanted = source(X).numpy()
        for target in TARGETS:
            form, folder = FORMATS[target], tmp_path_factory.mktemp(target)
            form.write(source, folder, precision, classes=())
            found = form.load(folder)(X)
            audit = form.audit(folder, X[:1])
            note(f"{target} in {precision}: {audit}")
            if precision == "float32":
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=target)
                assert audit.integer_share == 0
                continue
            # One step off before a tanh is many behind it, so that only the mean is bound closely
            off = np.abs(found - wanted) / (max(np.ptp(wanted), 1e-6) / 255)
            note(f"{off.max():.2f} steps off at most, {off.mean():.3f} in the mean")
            assert off.mean() < 1.5, target
            assert off.max() < 30, target
            if target != "savedmodel":  # which computes all in float
                assert {layer.kernel for layer in audit.in_float} <= {"ConvTranspose"}, target
            assert all(layer.why for layer in audit.in_float), target
