"""A rebuilt model against the one it was made from: the same answers to random inputs, element by element."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats.keras3.layers import MODELS
from tasks.formats.keras3.tensors import COMPUTED_BY
from tasks.keras_graph.batch_independence import vocabulary
from tasks.keras_graph.rebuild import calls_of

if TYPE_CHECKING:
    import tensorflow as tf

TOLERANCE = 1e-5  # of the largest value of an example, and of each value: how far float32 sums differ by their order
SIZES = (32, 75, 224)  # for axes that may have any: small, or the least that some network for images takes
EXAMPLES = 4


class Different(Exception):
    """Two models that should be the same are not; its message names the first layer that differs."""


def first_difference(model: "tf.keras.Model", source: Any) -> None:
    """Compare a model of Keras 2 with the one of Keras 3 that it was made from.

    Where steps can be masked, it is asked a second time with some of them masked.

    Raises:
        Different: names the layer, and by how much it differs.

    """
    draw = np.random.default_rng(0)
    for size in SIZES:
        inputs = [_values(tensor, size, vocabulary(model), draw) for tensor in model.inputs]
        try:
            actual, expected = _outputs(model, source, inputs)
        except Exception as error:  # a layer for which these sizes are too small says so in its own way
            if size != SIZES[-1] and any(None in tensor.shape[1:] for tensor in model.inputs):
                continue
            reason = " ".join(str(error).split())[:200]
            raise Different(f"cannot be computed to be compared ({type(error).__name__}: {reason})") from error
        break
    _compare(model, source, inputs, actual, expected)
    for masked in _masked(inputs, _marks(model)):
        _compare(model, source, masked, *_outputs(model, source, masked))


def _compare(
    model: "tf.keras.Model", source: Any, inputs: list[np.ndarray], actual: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    worst = max(map(_distance, actual, expected))
    if worst > 1:
        raise Different(
            f"rebuilt in Keras 2 it answers otherwise, {worst * TOLERANCE:.2g} of the largest value away (allowed are "
            f"{TOLERANCE:g}), first at its layer {_culprit(model, source, inputs)}"
        )


def _marks(model: "tf.keras.Model") -> set[float]:
    """The values that mark a step as masked."""
    layers = model._flatten_layers()
    return {
        float(getattr(layer, "mask_value", 0))
        for layer in layers
        # an operation may be what computes a mask that a layer is called with
        if type(layer).__name__ == "Masking"
        or getattr(layer, "mask_zero", False)
        or getattr(layer, "symbol", "") in COMPUTED_BY.values()
    }


def _masked(inputs: list[np.ndarray], marks: set[float]) -> Iterator[list[np.ndarray]]:
    """Inputs with masked steps: at the end, at the start, in between, and all; each example has each of them once."""
    kinds = (
        lambda n: slice(1 + n // 2, n),
        lambda n: slice(0, (n + 1) // 2),
        lambda n: slice(1, n, 2),
        lambda n: slice(n),
    )
    for mark in sorted(marks):
        for first in range(len(kinds)):
            masked = [values.copy() for values in inputs]
            for values in masked:
                for place, example in enumerate(values if values.ndim > 1 else ()):
                    example[kinds[(first + place) % len(kinds)](len(example))] = mark
            yield masked


def _outputs(model: "tf.keras.Model", source: Any, inputs: list[np.ndarray]) -> tuple[list[Any], list[Any]]:
    import tensorflow as tf

    actual = tf.nest.flatten(model(_packed(model._nested_inputs, inputs), training=False))
    structure = getattr(source, "_inputs_struct", None)
    expected = tf.nest.flatten(source(inputs[0] if structure is None else _packed(structure, inputs), training=False))
    return list(map(_numbers, actual)), list(map(_numbers, expected))


def _packed(structure: Any, inputs: list[Any]) -> Any:
    import tensorflow as tf

    return tf.nest.pack_sequence_as(structure, inputs)


def _numbers(tensor: Any) -> np.ndarray:
    import keras

    values: np.ndarray = np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
    return values


def _values(tensor: Any, size: int, vocabulary: int, draw: np.random.Generator) -> np.ndarray:
    """Random inputs: one half about zero, the other as an image's; whole numbers where they choose among embeddings."""
    batch, *shape = tensor.shape
    whole = (batch or EXAMPLES, *(axis or size for axis in shape))
    if vocabulary or tensor.dtype.is_integer or tensor.dtype.is_bool:
        high = 2 if tensor.dtype.is_bool else vocabulary or 100
        return draw.integers(0, high, whole).astype(tensor.dtype.as_numpy_dtype)
    values = draw.normal(size=whole)
    values[::2] = draw.uniform(0, 255, values[::2].shape)
    return values.astype(np.float32)


def _distance(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a multiple of what is allowed; infinite where one is no number and the other is."""
    if actual.shape != expected.shape:
        return np.inf
    if not expected.size:
        return 0.0
    axes = tuple(range(1, expected.ndim))
    with np.errstate(invalid="ignore"):
        largest = np.max(np.abs(np.nan_to_num(expected)), axis=axes, keepdims=True)
        allowed = TOLERANCE * (np.abs(expected) + largest) + 1e-30
        off = np.where(
            (actual == expected) | (np.isnan(actual) & np.isnan(expected)), 0, np.abs(actual - expected) / allowed
        )
    return float(np.max(np.where(np.isnan(off), np.inf, off)))


def _culprit(model: "tf.keras.Model", source: Any, inputs: list[np.ndarray]) -> str:
    """The first layer whose answers differ, inside nested models too."""
    import keras
    import tensorflow as tf

    graph = source if type(source).__name__ == "Functional" else source._functional
    theirs = [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]
    ours = {(node.layer.name, index): node for index, node in _numbered(calls_of(model), "layer")}
    pairs = [
        (node, ours[node.operation.name, index])
        for index, node in _numbered(theirs, "operation")
        if (node.operation.name, index) in ours
    ]
    tensors = [(node.outputs[0], tf.nest.flatten(own.outputs)[0]) for node, own in pairs]
    whole = keras.Model(graph.inputs, [tensor for tensor, _ in tensors])
    own = tf.keras.Model(model.inputs, [tensor for _, tensor in tensors])
    expected, actual = whole(inputs, training=False), own(inputs, training=False)
    for (node, call), theirs_output, ours_output in zip(pairs, expected, actual, strict=True):
        if _distance(_numbers(ours_output), _numbers(theirs_output)) <= 1:
            continue
        name = node.operation.name
        if type(node.operation).__name__ in MODELS:
            try:
                first_difference(call.layer, node.operation)
            except Different as error:
                return f"'{name}', in that: {error}"
        return f"'{name}' ({type(node.operation).__name__})"
    return f"'{model.output_names[0]}'"


def _numbered(nodes: list[Any], layer: str) -> list[tuple[int, Any]]:
    """Calls with how many of the same layer came before."""
    seen: dict[int, int] = {}
    numbered = []
    for node in nodes:
        key = id(getattr(node, layer))
        numbered.append((seen.get(key, 0), node))
        seen[key] = seen.get(key, 0) + 1
    return numbered
