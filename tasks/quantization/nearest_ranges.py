"""The calibration under which a model's answers change least, found by trying each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tasks.contract.progress import listener
from tasks.quantization.calibration import Calibration
from tasks.quantization.mixed_precision import change

if TYPE_CHECKING:
    import tensorflow as tf


def nearest(
    make: Callable[..., "tf.keras.Model"], answers: Callable[["tf.keras.Model"], np.ndarray], expected: np.ndarray
) -> dict[str, Any]:
    """The settings of `fake_quantized`, `calibration` and `bias_correction`, that change a model's outputs least.

    Each calibration is tried, and then the best of them with biases corrected.

    Args:
        make: a fake-quantized model, given these settings.
        answers: a model's outputs `(n, ...)` on examples that set no range.
        expected: the float model's outputs.

    """

    def off(calibration: str, bias_correction: bool) -> float:
        return change(answers(make(calibration=calibration, bias_correction=bias_correction)), expected)

    plain = {calibration: off(calibration, False) for calibration in get_args(Calibration)}
    best = min(plain, key=plain.__getitem__)
    corrected = off(best, True)
    each = ", ".join(f"{calibration} {changed:.2e}" for calibration, changed in plain.items())
    listener().note(
        "quantize",
        f"answers change, in units of their variance, by: {each}; {best} with biases corrected {corrected:.2e}",
    )
    return {"calibration": best, "bias_correction": corrected < plain[best]}
