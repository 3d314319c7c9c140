"""Answers compared with those that they stand for, on arrays."""

import numpy as np
import pytest

from tasks.contract.named import ONE
from tasks.formats.parity import sizes_apart
from tasks.measuring.agreement import FLOAT, furthest, mean_steps
from tasks.quantization.sensitivity import OutputSlack

EXPECTED = np.random.default_rng(0).uniform(0, 1, (50, 3)) * np.array([600, 1, 1e-3])


@pytest.mark.parametrize("channel", range(3))
def test_each_channel_is_compared_on_the_scale_of_its_own_range(channel):
    """A score beside boxes in pixels; but not to digits that float32 has not."""
    span = np.ptp(EXPECTED[:, channel])
    off = np.zeros_like(EXPECTED)
    off[7, channel] = 600e-6 + span * FLOAT
    assert furthest(EXPECTED + 0.9 * off, EXPECTED).share <= 1
    difference = furthest(EXPECTED + 1.1 * off, EXPECTED)
    assert (difference.channel, difference.share > 1) == (channel, True)
    assert difference.span == pytest.approx(span)


def test_what_is_no_number_is_never_agreed_with():
    broken = EXPECTED.copy()
    broken[3, 1] = np.nan
    for actual, expected in ((broken, EXPECTED), (EXPECTED, broken), (broken, broken)):
        assert furthest(actual, expected).share > 1
        assert mean_steps(actual, expected, 0.1, 2, 1).share > 1


def test_scatter_and_a_shift_are_bound_apart():
    signs = np.where(np.arange(50) % 2, 1, -1)[:, None]
    assert mean_steps(EXPECTED + 0.19 * signs, EXPECTED, 0.1, 2, 0.75).share <= 1
    assert mean_steps(EXPECTED + 0.21 * signs, EXPECTED, 0.1, 2, 0.75).share > 1
    assert mean_steps(EXPECTED + 0.07, EXPECTED, 0.1, 2, 0.75).share <= 1
    assert mean_steps(EXPECTED + 0.08, EXPECTED, 0.1, 2, 0.75).share > 1


@pytest.mark.parametrize(
    ("precision", "off", "apart"), [("int8", 2.0, False), ("int8", 9.0, True), ("float32", 2.0, True)]
)
def test_what_a_file_answers_alone_may_be_a_step_from_what_it_answers_many_only_in_steps(precision, off, apart):
    step = 0.1
    answers = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)

    def predict(x):
        outputs = answers[x[:, 0].astype(int)].copy()
        if len(x) == 1 and x[0, 0] % 2:  # half of them, to one side each
            outputs[:, 1] += off * step * (1 if x[0, 0] % 4 == 1 else -1)
        return outputs

    by = {ONE: OutputSlack(step, 0.0, 0.0)} if precision == "int8" else None
    x = np.arange(32, dtype=np.float32)[:, None]
    sentence = sizes_apart(predict, "savedmodel", precision, x, 32, answers, by=by)
    assert bool(sentence) == apart
