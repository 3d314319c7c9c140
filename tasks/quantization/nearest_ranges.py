"""The calibration under which a model's answers change least, found by trying each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from tasks.contract.progress import listener
from tasks.quantization.calibration import Calibration
from tasks.quantization.mixed_precision import change

if TYPE_CHECKING:
    import tensorflow as tf


class Nearest(NamedTuple):
    """A fake-quantized model, the settings of `fake_quantized` that made it, and by how much its answers change."""

    changed: float
    settings: dict[str, Any]
    model: "tf.keras.Model"


def nearest(
    make: Callable[..., "tf.keras.Model"], answers: Callable[["tf.keras.Model"], np.ndarray], expected: np.ndarray
) -> Nearest:
    """The `calibration` and `bias_correction` that change a model's outputs least.

    Each calibration is tried, and then the best of them with biases corrected.

    Args:
        make: a fake-quantized model, given these settings.
        answers: a model's outputs `(n, ...)` on examples that set no range.
        expected: the float model's outputs.

    """
    figures: list[str] = []

    def tried(calibration: str, *, bias_correction: bool) -> Nearest:
        settings = {"calibration": calibration, "bias_correction": bias_correction}
        model = make(**settings)
        way = Nearest(change(answers(model), expected), settings, model)
        figures.append(f"{calibration}{', biases corrected,' if bias_correction else ''} {way.changed:.2e}")
        return way

    def nearer(one: Nearest, other: Nearest) -> Nearest:  # no other is kept: a model may be large
        return other if other.changed < one.changed else one

    first, *others = get_args(Calibration)
    best = tried(first, bias_correction=False)
    for calibration in others:
        best = nearer(best, tried(calibration, bias_correction=False))
    best = nearer(best, tried(best.settings["calibration"], bias_correction=True))
    listener().note("quantize", f"answers change, in units of their variance, by: {'; '.join(figures)}")
    return best
