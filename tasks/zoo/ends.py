"""What every architecture has before and behind it: raw values come in, probabilities or raw values go out."""

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.data import Dataset
from tasks.data.heads import Head, Input, Scaling

if TYPE_CHECKING:
    import tensorflow as tf

Factors = tuple[float, ...]  # one for all values, or one for each channel
# Deviations that values lie from 0, from which they are centred before they are scaled: a year is 2,000 and varies by
# one, and `2024 * scale + offset` leaves of float32 what another runtime rounds otherwise.
FAR = 100


@dataclass(frozen=True)
class InputEnd:
    """An input's shape, and the straight line `value * scale + offset` to the range that a model learns well in.

    name: `ONE` where there is no other.
    ids: how many ids there are, from 0, where the values are ids of words; else 0.
    """

    shape: tuple[int, ...]
    scale: Factors = (1.0,)
    offset: Factors = (0.0,)
    name: str = ONE
    ids: int = 0


@dataclass(frozen=True)
class OutputEnd:
    """An output's shape, and the straight line from what the last layer learns, deviations from the mean, to raw units.

    The line is unused for classes and labels. name: `ONE` where there is no other.
    """

    shape: tuple[int, ...]
    problem: Problem
    scale: Factors = (1.0,)
    offset: Factors = (0.0,)
    name: str = ONE


@dataclass(frozen=True)
class ModelEnds:
    """All inputs and outputs, in the data's order."""

    inputs: tuple[InputEnd, ...]
    outputs: tuple[OutputEnd, ...]

    @classmethod
    def one(cls, input_shape: tuple[int, ...], output_shape: tuple[int, ...], problem: Problem) -> "ModelEnds":
        """Those of a model with one of each, whose values are in the range that it works in."""
        return cls((InputEnd(input_shape),), (OutputEnd(output_shape, problem),))


def ends_of(data: Dataset) -> ModelEnds:
    """The ends that fit a data set: from its shapes, and from what its train split's values are like."""
    return ModelEnds(
        tuple(replace(_input_end(each, data.scaling(each.name)), ids=data.ids) for each in data.inputs),
        tuple(_output_end(head, data) for head in data.heads),
    )


def _input_end(one: Input, scaling: Scaling) -> InputEnd:
    mean, spread = np.zeros(1), np.ones(1)
    if scaling == "unit":
        mean, spread = np.array([one.minimum]), np.array([one.maximum - one.minimum])
    elif scaling == "standardize":
        mean, spread = one.mean, one.std
    spread = np.where(spread > 0, spread, 1.0)  # a value that never varies stays where its mean puts it
    return InputEnd(one.shape, _factors(1 / spread), _factors(-mean / spread), one.name)


def _output_end(head: Head, data: Dataset) -> OutputEnd:
    mean, spread = data.inputs[0].mean, data.inputs[0].std  # of a reconstruction, which is of the one input
    if head.problem == "regression":
        targets = head.of(data.targets["train"]).astype(np.float64).reshape(-1, head.output_shape[-1])
        mean, spread = targets.mean(axis=0), targets.std(axis=0)
    scale = _factors(np.where(spread > 0, spread, 1.0))
    return OutputEnd(head.output_shape, head.problem, scale, _factors(mean), head.name)


def open_end(ends: ModelEnds) -> tuple[list["tf.Tensor"], "tf.Tensor"]:
    """The inputs `(batch, …)` in raw values, and the same in the range that the model works in.

    Of several these are laid side by side `(batch, values)`.
    """
    import tensorflow as tf

    opened = [_opened(end) for end in ends.inputs]
    inputs, features = [one for one, _ in opened], [each for _, each in opened]
    if len(features) == 1:
        return inputs, features[0]
    vectors = [each if len(each.shape) == 2 else tf.keras.layers.Flatten()(each) for each in features]
    return inputs, tf.keras.layers.Concatenate(name="side_by_side")(vectors)


def open_sequence(ends: ModelEnds, channels: int, *, mask: bool = False) -> tuple[list["tf.Tensor"], "tf.Tensor"]:
    """The one input, and its steps `(batch, steps, …)`: its own, or so many numbers for each word.

    mask: whether steps behind a text's end are masked.
    """
    import tensorflow as tf

    (end,) = ends.inputs
    if not end.ids:
        return open_end(ends)
    inputs = tf.keras.Input(end.shape, name=end.name or "input")
    return [inputs], tf.keras.layers.Embedding(end.ids, channels, mask_zero=mask, name="embedding")(inputs)


def _opened(end: InputEnd) -> tuple["tf.Tensor", "tf.Tensor"]:
    import tensorflow as tf

    inputs = tf.keras.Input(end.shape, name=end.name or "input")
    scale, offset = np.asarray(end.scale), np.asarray(end.offset)
    if np.abs(offset).max() < FAR:
        return inputs, _line(end.scale, end.offset, _named(end.name, "preprocessing"))(inputs)
    centred = _line((1.0,), _factors(offset / scale), _named(end.name, "centre"))(inputs)
    return inputs, _line(end.scale, (0.0,), _named(end.name, "preprocessing"))(centred)


def close_end(ends: ModelEnds, inputs: "list[tf.Tensor]", features: "tf.Tensor", name: str) -> "tf.keras.Model":
    """The model from `inputs` to what each output's problem asks for.

    It is made of features `(batch, n)`; or of `(batch, …, n)` with the places of the answers, each of which answers by
    its own.
    """
    import tensorflow as tf

    return tf.keras.Model(inputs, [_closed(end, features) for end in ends.outputs], name=name)


def _closed(end: OutputEnd, features: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    layers = tf.keras.layers
    last = layers.Dense if len(features.shape) == 2 else partial(layers.Conv2D, kernel_size=1)
    units = prod(end.shape) if len(features.shape) == 2 else end.shape[-1]
    called = "logits" if end.problem in ("classification", "multilabel") else "values"
    outputs = last(units, name=_named(end.name, called))(features)
    if len(features.shape) == 2 and len(end.shape) > 1:
        outputs = layers.Reshape(end.shape, name=_named(end.name, "shape"))(outputs)
    if end.problem == "classification":
        return layers.Softmax(name=end.name or "probabilities")(outputs)
    if end.problem == "multilabel":
        return layers.Activation("sigmoid", name=end.name or "shares")(outputs)
    return _line(end.scale, end.offset, end.name or "output")(outputs)


def _named(end: str, layer: str) -> str:
    """What a layer is called: of several ends with the end's name."""
    return f"{end}_{layer}" if end else layer


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
