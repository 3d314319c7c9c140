"""Models that people bring, from a file or from a function of theirs: as they came, and as Keras 2 models."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract import own_function
from tasks.contract.errors import ModelError
from tasks.contract.named import ordered, packed
from tasks.data.heads import Head
from tasks.formats.keras import files as keras
from tasks.formats.keras.ends import Shape, places
from tasks.formats.keras3.files import is_keras3
from tasks.keras_graph.names import signature_names
from tasks.measuring.arrays import Outputs

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Brought:
    """A model that somebody brought.

    source: as it came, in the Keras that it was made with. model: in Keras 2, with the data's axes and order of ends.
    taken: which of the source's inputs takes each of the data's, counted from 0.
    given: which of its outputs each head is.
    """

    source: Any
    model: "tf.keras.Model"
    taken: tuple[int, ...] = (0,)
    given: tuple[int, ...] = (0,)

    @property
    def keras(self) -> str:
        """What it was made with, such as `Keras 3.12.0`."""
        if not is_keras3(self.source):
            return keras.version()
        import keras as three

        return f"Keras {three.__version__}"

    def answers(self, x: Outputs, batch: int) -> Outputs:
        """What it answers as it came, called as its users call it: float32 `(n, …)`.

        Args:
            x: raw inputs `(n, …)`, float32; whole numbers where it takes those.
            batch: how many it is asked at once.

        """
        import tensorflow as tf

        inputs, heads = signature_names(self.model)
        arrays = dict(zip(self.taken, ordered(x, inputs), strict=True))
        own = [arrays[place].astype(_dtype(tensor)) for place, tensor in enumerate(self.source.inputs)]
        structure = getattr(self.source, "_inputs_struct" if is_keras3(self.source) else "_nested_inputs", None)
        asked = own[0] if len(own) == 1 else tf.nest.pack_sequence_as(structure, own)
        outputs = tf.nest.flatten(self.source.predict(asked, batch_size=batch, verbose=0))
        return packed(
            {head: np.asarray(outputs[place], np.float32) for head, place in zip(heads, self.given, strict=True)}
        )


def _dtype(tensor: Any) -> np.dtype:
    """The type that an input of either Keras takes."""
    dtype: np.dtype = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype))
    return dtype


def bring(name: str, inputs: Mapping[str, Shape], heads: Sequence[Head], *, trust: bool, field: str) -> Brought:
    """A model from a file or a function.

    Args:
        name: an `.h5` or `.keras` file, a SavedModel folder, or package.module:function.
        inputs: the shape of one example, by the name of each of the data's inputs.
        heads: what its outputs are to be.
        trust: run code that a file brings.
        field: the recipe's name for the model, for messages.

    Raises:
        ModelError: no such model, unsafe, damaged, or not made for these data; names the field and the way out.

    """
    if own_function.NAME.fullmatch(name):
        source = _called(name, inputs, heads, field)
        model = keras.plain(source, name, field)
        source = keras.in_float32(source)
    else:
        model, source = keras.opened(Path(name).expanduser(), trust=trust, field=field)
    taken, given = places(model, list(inputs), [head.name for head in heads], name, field)
    return Brought(source, keras.fitted(model, inputs, heads, name, field), tuple(taken), tuple(given))


def _called(name: str, inputs: Mapping[str, Shape], heads: Sequence[Head], field: str) -> Any:
    """What a user's function gives. It may take `input_shape` and `output_shape`, or nothing; of several, by name."""
    source_of(name, field)
    import tensorflow as tf

    tf.keras.backend.reset_uids()  # names that Keras gives must not depend on what else was built before
    if "keras" in sys.modules:  # Keras 3, of which the function may build its model
        sys.modules["keras"].backend.clear_session(free_memory=False)
    try:
        function = own_function.load(name)
        outputs = {head.name: head.output_shape for head in heads}
        shapes = {"input_shape": _one_or_all(inputs), "output_shape": _one_or_all(outputs)}
        taken = inspect.signature(function).parameters
        return function(**{key: value for key, value in shapes.items() if key in taken})
    except Exception as error:  # the function is the user's: it may raise anything
        raise ModelError(
            field,
            name,
            f"{type(error).__name__}: {error}; it is called with those of `input_shape` and `output_shape` that it "
            "takes, and must return a Keras model",
        ) from error


def _one_or_all(shapes: Mapping[str, Shape]) -> Shape | dict[str, Shape]:
    return dict(shapes) if len(shapes) > 1 else next(iter(shapes.values()))


def source_of(name: str, field: str) -> Path:
    """The file that a function's module is read from, located without running it.

    Raises:
        ModelError: there is no such module.

    """
    try:
        return own_function.source_of(name)
    except ModuleNotFoundError as error:
        raise ModelError(field, name, str(error)) from error
