"""Every layer class and activation of Keras, in each format: the answers of the model that was brought, or a refusal.

`layer_sweep` has the lines, `layer_answers` asks them. What is not right today stands in `layer_sweep_known.txt`: a
refusal has to stay one, and what is wrong is expected to fail, so that a mend is noticed and the line taken out. After
changes, `python tests/support/layer_answers.py` writes that file anew.
"""

import re

import numpy as np
import pytest
from layer_answers import PRECISIONS, RIGHT, groups, judged, key, known, model_of, seen
from layer_sweep import ACTIVATIONS, ACTIVATIONS_LEFT_OUT, LEFT_OUT, Case, cases, public

KNOWN = known()


def _libraries():
    import keras
    import tensorflow as tf

    return {2: tf.keras, 3: keras}


@pytest.mark.parametrize("keras", [2, 3])
def test_every_class_is_tried_or_left_out_for_a_reason(keras):
    layers = _libraries()[keras].layers
    called = {name for case in cases(keras) for name in re.findall(r"\b([A-Z]\w+)\(", case.line)}
    classes = {getattr(layers, name) for name in called}  # some have several names
    for name in public(layers):
        assert (getattr(layers, name) in classes) != (name in LEFT_OUT), name
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("keras", [2, 3])
def test_every_activation_is_tried_or_left_out_for_a_reason(keras):
    module = _libraries()[keras].activations
    names = {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))}
    assert names - set(ACTIVATIONS_LEFT_OUT) == set(ACTIVATIONS[keras])
    assert all(ACTIVATIONS_LEFT_OUT.values())


def _asked():
    """Each case, precision and target, with those beside which it is asked."""
    for keras in (2, 3):
        for precision in PRECISIONS:
            for group, targets, quick in groups(keras, precision, KNOWN):
                for target in targets:
                    for case in group:
                        expected = KNOWN.get(key(case, precision, target), RIGHT)
                        marks = [] if target in quick else [pytest.mark.slow]
                        if expected != RIGHT and not expected.startswith("refused "):
                            marks.append(pytest.mark.xfail(reason=expected, strict=True))
                        name = key(case, precision, target)
                        yield pytest.param(group, case, precision, target, expected, id=name, marks=marks)


OUTCOMES: dict[tuple[tuple[Case, ...], str, str], dict[Case, str]] = {}


@pytest.mark.parametrize(("group", "case", "precision", "target", "expected"), list(_asked()))
def test_a_layer_answers_as_in_keras_or_is_refused(group, case, precision, target, expected):
    if (group, precision, target) not in OUTCOMES:
        OUTCOMES[group, precision, target] = seen(group, precision, target)
    outcome = OUTCOMES[group, precision, target][case]
    if expected.startswith("refused "):
        assert outcome.startswith("refused "), f"{outcome}, where the table has a refusal: take it out"
    else:
        assert outcome == RIGHT


def test_every_known_line_is_asked():
    names = {parameters.id for parameters in _asked()}
    assert KNOWN.keys() <= names


def test_weights_are_drawn_so_that_none_can_be_left_out():
    lines = ("BatchNormalization()", "Conv2D(5, 3)", "PReLU()")
    model = model_of(tuple(case for case in cases(2) if case.line in lines and case.shape == (8, 8, 3)), "between")
    assert len(model.get_weights()) > 10
    for value in model.get_weights():
        assert np.unique(value).size == value.size


LAST = np.eye(3)[2]  # of three channels, each with a range of some 5, all with steps of some 0.02


@pytest.mark.parametrize(
    ("change", "precision", "judgement"),
    [
        (lambda y: y, "float32", RIGHT),
        (lambda y: y + LAST * 0.02, "float32", "wrong by 0.0"),
        (lambda y: y[:, :2], "float32", "wrong shape"),
        (lambda y: y * np.nan, "float32", "wrong: not finite"),
        (lambda y: y + LAST * 0.02, "int8", RIGHT),
        (lambda y: y + LAST * 0.12, "int8", "wrong by"),
    ],
)
def test_one_channel_that_is_off_is_enough(change, precision, judgement):
    expected = np.random.default_rng(0).normal(0, 1, (64, 3))
    assert judged([change(expected)], expected, expected, precision).startswith(judgement)
    assert judged([expected], expected, expected + LAST, "int8").endswith("when it is quantized")
