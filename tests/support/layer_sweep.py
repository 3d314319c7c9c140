"""Every layer class and activation of Keras 2 and 3: what is tried, by `layer_lines`; what is not, and why."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from layer_lines import BOTH, IMAGE, INDICES, NUMBERED, SEQUENCE, THREE, TWO, VECTOR

# What is not tried, and why.
LEFT_OUT = {
    "AbstractRNNCell": "a base class without a computation",
    "DenseFeatures": "takes a dict of feature columns, and a data set's examples are one tensor",
    "FlaxLayer": "runs in JAX",
    "InputLayer": "every line has one",
    "InputSpec": "no layer, but a layer's demand on its input",
    "JaxLayer": "runs in JAX",
    "Layer": "a base class without a computation",
    "MaxNumBoundingBoxes": "takes a dict of boxes, and a data set's examples are one tensor",
    "StringLookup": "takes strings, and data sets are numbers",
    "TFSMLayer": "wraps a SavedModel, whose layers are gone",
    "TextVectorization": "takes strings, and data sets are numbers",
    "TorchModuleWrapper": "runs in PyTorch",
    "Wrapper": "a base class without a computation",
}
SHARED = "elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus softsign swish tanh"
ACTIVATIONS = {
    2: SHARED.split(),
    3: f"""{SHARED} celu glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax relu6 silu
        soft_shrink sparse_plus sparse_sigmoid sparsemax squareplus tanh_shrink""".split(),
}
ACTIVATIONS_LEFT_OUT = {
    "deserialize": "no activation, but reads one",
    "get": "no activation, but looks one up",
    "serialize": "no activation, but writes one",
    "threshold": "takes arguments that a layer's `activation` cannot give",
}


# Lines over sequences for which Keras itself fails behind a mask, or which make one themselves.
NEVER_MASKED = (
    *("GlobalAveragePooling1D(data_format='channels_first')", "GroupNormalization(2)"),
    *("GroupNormalization(4, axis=1)", "Softmax(axis=1)", "Concatenate(axis=1)([x, y])"),
    *("Masking()", "Masking(0.5)"),
)


@dataclass(frozen=True)
class Case:
    """One line, in one Keras."""

    keras: int
    line: str
    shape: tuple[int, ...]
    batch: int | None = None  # the model's own, where it must be fixed
    numbered: bool = False
    masked: bool = False

    @property
    def kind(self) -> str:
        """The class that is tried."""
        return self.line.split("(", 1)[0]

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        batch = f" in batches of {self.batch}" if self.batch else ""
        return f"{self.line} of {'masked ' if self.masked else ''}{shape}{batch}"


def public(module: Any) -> set[str]:
    """The names of a module's classes."""
    return {name for name in dir(module) if inspect.isclass(getattr(module, name))}


def cases(keras: int) -> list[Case]:
    """All lines that one Keras takes; those over sequences a second time behind a mask."""
    read: list[Case] = []
    for lines in (BOTH, TWO if keras == 2 else THREE, {VECTOR: _activated(keras, "Dense(6, activation={!r})")}):
        for shape, text in lines.items():
            read += _read(keras, text, shape, numbered=shape == INDICES)
    read += _read(keras, _activated(keras, "Activation({!r})"), IMAGE)
    read += _read(keras, NUMBERED, INDICES, numbered=True)
    read += [
        Case(keras, case.line, case.shape, masked=True)
        for case in read
        if case.shape == SEQUENCE and case.batch is None and case.line not in NEVER_MASKED
    ]
    return read


def _activated(keras: int, line: str) -> str:
    return "\n".join(line.format(name) for name in ACTIVATIONS[keras])


def _read(keras: int, text: str, shape: tuple[int, ...], *, numbered: bool = False) -> Iterator[Case]:
    for line in filter(None, map(str.strip, text.splitlines())):
        line, _, batch = line.partition(" # ")
        yield Case(keras, line, shape, int(batch) if batch else None, numbered)
