"""Which settings are taken, of made-up models whose answers are off by a figure that is known."""

from typing import get_args

import numpy as np
import pytest

from tasks.quantization.calibration import Calibration
from tasks.quantization.nearest_ranges import nearest

EXPECTED = np.array([[0.0], [2.0]], np.float32)  # of variance 1
OFF = {"minmax": 0.3, "percentile": 0.5, "entropy": 0.9, "mse": 0.4}


@pytest.mark.parametrize("best", get_args(Calibration))
@pytest.mark.parametrize("corrected", [0.01, 2.0])
def test_the_least_change_is_taken_and_corrected_biases_only_where_they_help(best, corrected):
    made = []

    def make(calibration, bias_correction):
        made.append((calibration, bias_correction))
        return (0.1 if calibration == best else OFF[calibration]) * (corrected if bias_correction else 1)

    changed, settings, model = nearest(make, lambda off: EXPECTED + np.float32(off), EXPECTED)
    assert settings == {"calibration": best, "bias_correction": corrected < 1}
    assert model == 0.1 * min(corrected, 1)
    assert changed == pytest.approx(model**2, rel=1e-3)
    assert made == [*((name, False) for name in get_args(Calibration)), (best, True)], "each is made once"
