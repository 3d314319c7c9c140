"""Models that people bring, from a file or from a function of theirs: as they came, and as Keras 2 models."""

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract import own_function
from tasks.contract.errors import ModelError
from tasks.contract.problem import Problem
from tasks.formats.keras import files as keras
from tasks.formats.keras3.files import is_keras3
from tasks.measuring.arrays import Outputs

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Brought:
    """A model that somebody brought.

    source: as it came, in the Keras that it was made with. model: in Keras 2, with the data's axes.
    """

    source: Any
    model: "tf.keras.Model"

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
        taken = self.source.inputs[0].dtype
        dtype = np.dtype(getattr(taken, "as_numpy_dtype", taken))
        outputs: Outputs = np.asarray(self.source.predict(x.astype(dtype), batch_size=batch, verbose=0), np.float32)
        return outputs


def bring(
    name: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], problem: Problem, *, trust: bool, field: str
) -> Brought:
    """A model from a file or a function.

    Args:
        name: an `.h5` or `.keras` file, a SavedModel folder, or package.module:function.
        input_shape: of one example.
        output_shape: of one prediction.
        problem: what it is to solve.
        trust: run code that a file brings.
        field: the recipe's name for the model, for messages.

    Raises:
        ModelError: no such model, unsafe, damaged, or not made for these data; names the field and the way out.

    """
    if own_function.NAME.fullmatch(name):
        source = _called(name, input_shape, output_shape, field)
        model = keras.plain(source, name, field)
        source = keras.in_float32(source)
    else:
        model, source = keras.opened(Path(name).expanduser(), trust=trust, field=field)
    return Brought(source, keras.fitted(model, input_shape, output_shape, problem, name, field))


def _called(name: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], field: str) -> Any:
    """What a user's function gives. It may take `input_shape` and `output_shape`, or nothing."""
    source_of(name, field)
    import tensorflow as tf

    tf.keras.backend.reset_uids()  # names that Keras gives must not depend on what else was built before
    if "keras" in sys.modules:  # Keras 3, of which the function may build its model
        sys.modules["keras"].backend.clear_session(free_memory=False)
    try:
        function = own_function.load(name)
        shapes = {"input_shape": input_shape, "output_shape": output_shape}
        taken = inspect.signature(function).parameters
        return function(**{key: value for key, value in shapes.items() if key in taken})
    except Exception as error:  # the function is the user's: it may raise anything
        raise ModelError(
            field,
            name,
            f"{type(error).__name__}: {error}; it is called with those of `input_shape` and `output_shape` that it "
            "takes, and must return a Keras model",
        ) from error


def source_of(name: str, field: str) -> Path:
    """The file that a function's module is read from, located without running it.

    Raises:
        ModelError: there is no such module.

    """
    try:
        return own_function.source_of(name)
    except ModuleNotFoundError as error:
        raise ModelError(field, name, str(error)) from error
