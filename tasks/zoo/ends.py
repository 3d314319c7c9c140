"""What every architecture has before and behind it: raw values come in, probabilities or raw values go out."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.problem import Problem
from tasks.data import Dataset

if TYPE_CHECKING:
    import tensorflow as tf

Factors = tuple[float, ...]  # one for all values, or one for each channel
# Deviations that values lie from 0, from which they are centred before they are scaled: a year is 2,000 and varies by
# one, and `2024 * scale + offset` leaves of float32 what another runtime rounds otherwise.
FAR = 100


@dataclass(frozen=True)
class ModelEnds:
    """Shapes of one example, and the straight lines `value * scale + offset` that raw values take in and out.

    input_scale, input_offset: from raw values to the range that a model learns well in.
    output_scale, output_offset: from a model's last layer, which learns deviations from the mean, to raw units; unused
        for classes and labels.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    problem: Problem
    input_scale: Factors = (1.0,)
    input_offset: Factors = (0.0,)
    output_scale: Factors = (1.0,)
    output_offset: Factors = (0.0,)


def ends_of(data: Dataset) -> ModelEnds:
    """The ends that fit a data set: from its shapes, and from what its train split's values are like."""
    mean, spread = np.zeros(1), np.ones(1)
    if data.scaling == "unit":
        mean, spread = np.array([data.minimum]), np.array([data.maximum - data.minimum])
    elif data.scaling == "standardize":
        mean, spread = data.mean, data.std
    spread = np.where(spread > 0, spread, 1.0)  # a value that never varies stays where its mean puts it
    out_mean, out_spread = data.mean, data.std
    if data.config.problem == "regression":
        targets = data.targets["train"].astype(np.float64).reshape(-1, data.output_shape[-1])
        out_mean, out_spread = targets.mean(axis=0), targets.std(axis=0)
    return ModelEnds(
        input_shape=data.input_shape,
        output_shape=data.output_shape,
        problem=data.config.problem,
        input_scale=_factors(1 / spread),
        input_offset=_factors(-mean / spread),
        output_scale=_factors(np.where(out_spread > 0, out_spread, 1.0)),
        output_offset=_factors(out_mean),
    )


def open_end(ends: ModelEnds) -> tuple["tf.Tensor", "tf.Tensor"]:
    """The input `(batch, *input_shape)` in raw values, and the same in the range that the model works in."""
    import tensorflow as tf

    inputs = tf.keras.Input(ends.input_shape, name="input")
    scale, offset = np.asarray(ends.input_scale), np.asarray(ends.input_offset)
    if np.abs(offset).max() < FAR:
        return inputs, _line(ends.input_scale, ends.input_offset, "preprocessing")(inputs)
    centred = _line((1.0,), _factors(offset / scale), "centre")(inputs)
    return inputs, _line(ends.input_scale, (0.0,), "preprocessing")(centred)


def close_end(ends: ModelEnds, inputs: "tf.Tensor", features: "tf.Tensor", name: str) -> "tf.keras.Model":
    """The model from `inputs` to what the problem asks for.

    It is made of features `(batch, n)`; or of `(batch, …, n)` with the places of the answers, each of which answers by
    its own.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    last = layers.Dense if len(features.shape) == 2 else partial(layers.Conv2D, kernel_size=1)
    units = prod(ends.output_shape) if len(features.shape) == 2 else ends.output_shape[-1]
    called = "logits" if ends.problem in ("classification", "multilabel") else "values"
    outputs = last(units, name=called)(features)
    if len(features.shape) == 2 and len(ends.output_shape) > 1:
        outputs = layers.Reshape(ends.output_shape, name="shape")(outputs)
    if ends.problem == "classification":
        outputs = layers.Softmax(name="probabilities")(outputs)
    elif ends.problem == "multilabel":
        outputs = layers.Activation("sigmoid", name="shares")(outputs)
    else:
        outputs = _line(ends.output_scale, ends.output_offset, "output")(outputs)
    return tf.keras.Model(inputs, outputs, name=name)


def _factors(values: np.ndarray) -> Factors:
    """As the layers' configs keep them: float32 values, one number where all are the same."""
    rounded = [float(value) for value in values.astype(np.float32)]
    return (rounded[0],) if len(set(rounded)) == 1 else tuple(rounded)


def _line(scale: Factors, offset: Factors, name: str) -> "tf.keras.layers.Layer":
    import tensorflow as tf

    # numbers where one does for all channels: every converter folds those
    return tf.keras.layers.Rescaling(
        scale[0] if len(scale) == 1 else list(scale), offset[0] if len(offset) == 1 else list(offset), name=name
    )
