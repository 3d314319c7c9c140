"""Models with several named inputs and outputs, and examples for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from small_models import images, settle_norms

from tasks.contract.named import packed
from tasks.data.heads import Head

SHAPES: dict[str, tuple[int, ...]] = {"photo": (8, 8, 3), "table": (4,), "words": (5,)}
HEADS: dict[str, Head] = {
    "kind": Head(name="kind", problem="classification", output_shape=(3,)),
    "tags": Head(name="tags", problem="multilabel", output_shape=(4,)),
    "price": Head(name="price", problem="regression", output_shape=(2,)),
}
IDS = 7


def several(inputs: str = "photo table words", outputs: str = "kind tags price", *, library: Any = None) -> Any:
    """A model with these inputs and outputs, in this order: convolutions, a norm, an embedding, layers that are shared.

    The price, in hundreds, is inside the graph of the tags.
    """
    import tensorflow as tf

    keras = library or tf.keras
    keras.utils.set_random_seed(4)
    layers = keras.layers
    taken, parts = {}, []
    for name in inputs.split():
        taken[name] = keras.Input(SHAPES[name], name=name)
        parts.append(BRANCHES[name](layers, taken[name]))
    x = layers.Concatenate(name="joined")(parts) if len(parts) > 1 else parts[0]
    shared = layers.Dense(8, activation="relu", name="shared")
    x = shared(shared(layers.Dense(8, name="body")(x)))
    price = layers.Rescaling(80.0, 300.0, name="price")(layers.Dense(2, name="amount")(x))
    made = {
        "kind": lambda: layers.Dense(3, activation="softmax", name="kind")(x),
        "tags": lambda: layers.Dense(4, activation="sigmoid", name="tags")(
            layers.Concatenate(name="beside")([x, layers.Rescaling(0.01, -3.0, name="near")(price)])
        ),
        "price": lambda: price,
    }
    given = [made[name]() for name in outputs.split()]
    return settle_norms(keras.Model(list(taken.values()), given if len(given) > 1 else given[0], name="several"))


def _photo(layers: Any, x: Any) -> Any:
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="conv_relu")(layers.BatchNormalization(name="conv_norm")(x))
    return layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(8, 3, strides=2, activation="relu", name="deep")(x))


def _words(layers: Any, x: Any) -> Any:
    return layers.GlobalAveragePooling1D(name="words_mean")(layers.Embedding(IDS, 6, name="embedding")(x))


BRANCHES: Mapping[str, Any] = {
    "photo": _photo,
    "table": lambda layers, x: layers.Dense(6, activation="relu", name="columns")(x),
    "words": _words,
}


def examples(inputs: str = "photo table words", count: int = 32, seed: int = 0) -> np.ndarray:
    """Raw float32 values, as data give them: records where there are several inputs."""
    draw = np.random.default_rng(seed)
    made = {
        "photo": images(count, SHAPES["photo"], seed),
        "table": draw.normal(0, 1, (count, 4)).astype(np.float32),
        "words": draw.integers(0, IDS, (count, 5)).astype(np.float32),
    }
    return packed({name: made[name] for name in inputs.split()})


def shapes(inputs: str = "photo table words") -> dict[str, tuple[int, ...]]:
    return {name: SHAPES[name] for name in inputs.split()}


def heads(outputs: str = "kind tags price") -> list[Head]:
    return [HEADS[name] for name in outputs.split()]
