"""Answers held against those that they stand for, on arrays."""

import numpy as np
import pytest

from tasks.formats.parity import sizes_apart
from tasks.measuring.agreement import FLOAT, furthest, mean_steps
from tasks.quantization.sensitivity import Slack

WANTED = np.random.default_rng(0).uniform(0, 1, (50, 3)) * np.array([600, 1, 1e-3])


@pytest.mark.parametrize("channel", range(3))
def test_each_channel_is_held_to_its_own_range(channel):
    """A score beside boxes in pixels; but not to digits that float32 has not."""
    span = np.ptp(WANTED[:, channel])
    off = np.zeros_like(WANTED)
    off[7, channel] = 600e-6 + span * FLOAT
    assert furthest(WANTED + 0.9 * off, WANTED).share <= 1
    found = furthest(WANTED + 1.1 * off, WANTED)
    assert (found.channel, found.share > 1) == (channel, True)
    assert found.span == pytest.approx(span)


def test_what_is_no_number_is_never_agreed_with():
    broken = WANTED.copy()
    broken[3, 1] = np.nan
    for found, wanted in ((broken, WANTED), (WANTED, broken), (broken, broken)):
        assert furthest(found, wanted).share > 1
        assert mean_steps(found, wanted, 0.1, 2, 1).share > 1


def test_scatter_and_a_shift_are_bound_apart():
    signs = np.where(np.arange(50) % 2, 1, -1)[:, None]
    assert mean_steps(WANTED + 0.19 * signs, WANTED, 0.1, 2, 0.75).share <= 1
    assert mean_steps(WANTED + 0.21 * signs, WANTED, 0.1, 2, 0.75).share > 1
    assert mean_steps(WANTED + 0.07, WANTED, 0.1, 2, 0.75).share <= 1
    assert mean_steps(WANTED + 0.08, WANTED, 0.1, 2, 0.75).share > 1


@pytest.mark.parametrize(
    ("precision", "off", "told"), [("int8", 2.0, False), ("int8", 9.0, True), ("float32", 2.0, True)]
)
def test_what_a_file_answers_alone_may_be_a_step_from_what_it_answers_many_only_in_steps(precision, off, told):
    step = 0.1
    answers = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)

    def call(x):
        found = answers[x[:, 0].astype(int)].copy()
        if len(x) == 1 and x[0, 0] % 2:  # half of them, to one side each
            found[:, 1] += off * step * (1 if x[0, 0] % 4 == 1 else -1)
        return found

    by = Slack(step, 0.0) if precision == "int8" else None
    x = np.arange(32, dtype=np.float32)[:, None]
    found = sizes_apart(call, "savedmodel", precision, x, 32, answers, by=by)
    assert bool(found) == told
