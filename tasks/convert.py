"""Lower a Keras model to what a target runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifact import Precision, Target
from tasks.data import Dataset
from tasks.errors import ConversionError
from tasks.formats import FORMATS

if TYPE_CHECKING:
    import tensorflow as tf


def convert(model: "tf.keras.Model", target: Target, precision: Precision, folder: Path, data: Dataset) -> None:
    """Put a model in a folder in the form that a target runs; class names travel with it.

    A fake-quantized model brings its ranges, so nothing is calibrated here, and the same model gives the same bytes.

    Args:
        model: Keras 2, from `(batch, *data.input_shape)`; fake-quantized if precision is int8.
        target: the runtime.
        precision: the numbers that it computes in.
        folder: an existing, empty one.
        data: what the model is for.

    Raises:
        ConversionError: names layer, operator and target, and what to do.

    """
    form = FORMATS[target]
    if precision not in form.PRECISIONS:
        raise ConversionError(
            f"target {target} has no {precision}: choose another quantize.precision ({', '.join(form.PRECISIONS)}), or "
            f"leave {target} out of targets"
        )
    form.write(model, folder, precision, classes=data.classes)
