"""Random models of all layers, on images and masked sequences: right in every format, or refused by a layer's name."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, note, settings
from hypothesis import strategies as st
from random_graphs import heads
from random_layers import (
    image_graphs,
    image_model,
    images,
    sequence_ends,
    sequence_graphs,
    sequence_model,
    sequences,
)

from tasks.contract.errors import ConversionError, ModelError
from tasks.formats import FORMATS
from tasks.formats.parity import answers_apart, sizes_apart
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import is_fake_quantized
from tasks.quantization.sensitivity import slack

TARGETS = ("onnxruntime", "litert", "savedmodel")
X, S = images(32), sequences(32)
NOTHING = 1e-4  # that no answer of a model spans; its inputs and weights are of the size of 1
MANY = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
THOSE = settings(MANY, phases=[Phase.explicit])  # a file of a loop takes seconds: what is drawn is for `make test-slow`


def check_in_every_format(model: Any, x: np.ndarray) -> None:
    """Float files answer as Keras, int8 files as the fake-quantized model within the stated steps, by channel."""
    import tensorflow as tf

    # a norm of a norm in the mean is nothing but what sums are rounded by, in which no two kernels agree
    assume(np.ptp(model.predict(x, verbose=0), axis=0).max() > NOTHING)
    sources = {"float32": model}
    try:
        quantized = fake_quantized(model, x)
        sources |= {"int8": quantized} if is_fake_quantized(quantized) else {}
    except (ConversionError, ModelError) as refusal:
        named(refusal, model)
    for precision, source in sources.items():
        expected = source.predict(x, verbose=0)
        by = slack(source, x) if precision == "int8" else None
        for target in TARGETS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    FORMATS[target].write(source, Path(folder), precision, classes=())
                except ConversionError as refusal:
                    named(refusal, model)
                    continue
                call = FORMATS[target].load(Path(folder))
                actual = call(x)
                difference = answers_apart(actual, expected, target, precision, by=by)
                note(f"{target} {precision}: {difference} ({FORMATS[target].STEPS}, {by})")
                assert difference is None, (target, precision, str(difference))
                assert not (apart := sizes_apart(call, target, precision, x, len(x), actual, by=by)), (
                    target,
                    precision,
                    apart,
                )
    tf.keras.backend.clear_session()


def named(refusal: Exception, model: Any) -> None:
    """A refusal names a layer of the model, and is no surprise in the middle of a file."""
    note(f"refused: {refusal}")
    assert any(f"'{layer.name}'" in str(refusal) for layer in model.layers), str(refusal)


@THOSE
@given(graph=image_graphs, head=heads)
@example(
    graph=(("merge", "Concatenate", True), ("smoothed", "Average", 3, "same"), ("groups", 2, "swish")), head="mean"
)
@example(graph=(("stretched", 2, 3, "same"), ("layer_norm",), ("resize", "bilinear")), head="softmax")
def test_graphs_of_images(graph, head):
    check_in_every_format(image_model(graph, head), X)


@THOSE
@given(graph=sequence_graphs, end=sequence_ends, masked=st.booleans())
@example(graph=(("dense", 5, "relu"), ("dense", 4, "tanh")), end="mean", masked=True)
@example(graph=(("attention", 2, 3), ("conv", 4, 3, "causal", "tanh")), end="mean", masked=False)
def test_graphs_of_sequences(graph, end, masked):
    check_in_every_format(sequence_model(graph, end, masked=masked), S)


@pytest.mark.slow
@MANY
@given(graph=image_graphs, head=heads)
def test_thousands_of_graphs_of_images(graph, head):
    check_in_every_format(image_model(graph, head), X)


@pytest.mark.slow
@MANY
@given(graph=sequence_graphs, end=sequence_ends, masked=st.booleans())
def test_thousands_of_graphs_of_sequences(graph, end, masked):
    check_in_every_format(sequence_model(graph, end, masked=masked), S)
