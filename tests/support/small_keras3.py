"""The smallest models of Keras 3 that have what the tests are about."""

from typing import Any

import numpy as np

from tasks.contract.problem import Problem
from tasks.data.heads import Head

SHAPE, CLASSES = (8, 8, 3), (3,)
X = np.random.default_rng(0).normal(0, 1, (5, *SHAPE)).astype(np.float32)


def settled(model: Any) -> Any:
    """No weight is zero or one, so that none can be left out or taken for another."""
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.2, 0.9, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):  # which a Normalization does when it was adapted
            layer.finalize_state()
    return model


def small(activation: str = "softmax", **more: Any) -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE, name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv", **more)(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, activation=activation, name="out")(x), name="small")


def answers(model: Any, x: np.ndarray) -> list[np.ndarray]:
    outputs = model(x, training=False)
    return [np.asarray(each) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def head(shape: tuple[int, ...] = CLASSES, problem: Problem = "classification") -> Head:
    return Head(problem=problem, output_shape=shape)
