"""Sums of two tensors that no processor rounds in another way than the others."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from drawn_sums import ALL, PAIRS, between, drawn, integers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import images

from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.sums import rounded_apart, settle_sums
from tasks.processors import PROCESSORS, Question, ask, missing
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import nudged
from tasks.quantization.sums import FINEST, MOST, Steps, agreed, apart

DRAWN = [drawn(np.random.default_rng(seed)) for seed in range(60)]
APART = [steps for steps in DRAWN if apart(*steps)]
sizes = st.floats(1e-4, 10).map(np.float32)
numbers = st.integers(0, 255)


def exact(first: Steps, second: Steps, output: Steps) -> np.ndarray:
    """All sums, before they are rounded."""
    left = (PAIRS.astype(int) - first.zero) * float(first.size)
    return (left + (ALL.astype(int) - second.zero) * float(second.size)) / float(output.size) + output.zero


def answers(proto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": PAIRS})[0]


@pytest.mark.parametrize("form", [integers, between])
def test_where_none_is_apart_onnxruntime_rounds_as_everybody(form):
    for steps in DRAWN:
        actual, expected = answers(form(*steps)), np.clip(np.rint(exact(*steps)), 0, 255)
        off = (actual != expected).sum()
        assert off <= apart(*steps), steps


def test_most_sums_are_fine_and_many_are_not():
    assert 20 < len(APART) < 40


@given(sizes, numbers, sizes, numbers, st.floats(0.05, 2), numbers)
@settings(max_examples=60, deadline=None)
def test_a_hair_less_of_range_ends_it(one, zero, other, zero_too, share, zero_of_sum):
    first, second = Steps(one, zero), Steps(other, zero_too)
    size = np.float32((one + other) * share)
    scaled = lambda factor: Steps(np.float32(size * factor), zero_of_sum)  # noqa: E731
    factor = agreed(first, second, scaled)
    assert 1 - MOST * FINEST < factor <= 1
    assert apart(first, second, scaled(factor)) == 0


@pytest.mark.parametrize("share", [1, 0.5, 0.25])
def test_sums_that_lie_in_the_middle_by_the_dozen_are_moved_too(share):
    """A tensor that is added to itself, or to one with the same range: at half a step each second sum is a middle."""
    side = Steps(np.float32(0.02), 128)
    scaled = lambda factor: Steps(np.float32(side.size / share * factor), 128)  # noqa: E731
    assert (apart(side, side, scaled(1)) > 1000) == (share != 1)
    assert apart(side, side, scaled(agreed(side, side, scaled))) == 0
    assert agreed(side, side, scaled) > 0.999


def test_signed_numbers_are_looked_at_in_their_own_range():
    """The same sums, all numbers 128 lower."""
    for steps in DRAWN[:20]:
        assert apart(*(Steps(side.size, side.zero - 128) for side in steps), lowest=-128) <= 2 * apart(*steps) + 2


@pytest.mark.parametrize("form", [integers, between, lambda *steps: between(*steps, relu=True)])
def test_a_file_with_one_is_named_and_settled(form):
    model = ir.from_proto(form(*APART[0]))
    assert rounded_apart(model) == ("sum",)
    settle_sums(model)
    assert rounded_apart(model) == ()
    assert (answers(ir.to_proto(model)) != answers(form(*APART[0]))).sum() < 100, "by a step, and seldom"


def test_what_runs_in_float_is_not_looked_at():
    proto = between(*APART[0])
    proto.graph.output.append(onnx_value("sum"))
    assert rounded_apart(ir.from_proto(proto)) == ()


def onnx_value(name):
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (256, 256))


def residual():
    """Sums of sums: before a Relu, of a tensor with itself, by a layer that is called twice."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(2)
    inputs = tf.keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    for number in range(8):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv_{number}")(x)
        x = layers.Add(name=f"add_{number}")([x, y])
        x = layers.ReLU(name=f"relu_{number}")(x) if number % 2 else x
    x = layers.Add(name="twice")([x, x])
    again = layers.Add(name="again")
    x = again([again([x, layers.Conv2D(4, 1, name="side")(x)]), layers.Conv2D(4, 1, name="other")(x)])
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize("ranges", ["shared", "own"])
def test_no_file_has_one(ranges, tmp_path, monkeypatch):
    import onnx as library

    def written(folder):
        folder.mkdir()
        if ranges == "shared":
            onnx.write(fake_quantized(residual(), images(64)), folder, "int8", classes=())
        else:
            from tasks.formats.onnx.static_quantization import static

            onnx.write(residual(), folder, "float32", classes=())
            proto = static(library.load(folder / onnx.FILE), images(64), "minmax", 99.99)
            (folder / onnx.FILE).write_bytes(proto.SerializeToString())
        return ir.load(folder / onnx.FILE)

    settled = written(tmp_path / "settled")
    assert rounded_apart(settled) == ()
    assert onnx.audit(tmp_path / "settled", images(1)).sums_apart == ()
    for module in ("tasks.quantization.kernel_limits", "tasks.formats.onnx.sums"):
        monkeypatch.setattr(f"{module}.agreed", lambda *_: 1.0)
    assert rounded_apart(written(tmp_path / "unsettled")), "or there is nothing to settle in it"
    assert onnx.audit(tmp_path / "unsettled", images(1)).everywhere is False


def test_ranges_move_by_no_more_than_a_tenth_of_a_step(monkeypatch):
    model = residual()

    def ranges():
        quantized = fake_quantized(model, images(64))
        layers = [layer for layer in quantized.layers if layer.name.endswith("_range") or "_range_" in layer.name]
        return {layer.name: nudged(layer) for layer in layers}

    settled = ranges()
    monkeypatch.setattr("tasks.quantization.kernel_limits.agreed", lambda *_: 1.0)
    unsettled = ranges()
    assert settled.keys() == unsettled.keys()
    moved = [name for name in unsettled if settled[name] != unsettled[name]]
    assert moved
    assert all("add" in name or "relu" in name or name.startswith(("twice", "again")) for name in moved)
    for name in moved:
        np.testing.assert_allclose(settled[name], unsettled[name], rtol=0.1 / 255)


@pytest.mark.processors
def test_processors_round_apart_what_the_rule_names_and_nothing_else():
    processors = [name for name in PROCESSORS if not missing(name)]
    if not {"x86 without AVX2", "ARM64"} <= set(processors):
        pytest.skip("; ".join(f"{name}: {reason}" for name in PROCESSORS if (reason := missing(name))))
    files = {}
    for number, steps in enumerate(DRAWN):
        settled = ir.from_proto(integers(*steps))
        settle_sums(settled)
        files[f"{number}"], files[f"{number} settled"] = integers(*steps), ir.to_proto(settled)
    questions = {name: Question("onnxruntime", proto.SerializeToString(), PAIRS) for name, proto in files.items()}
    answered = [ask(name, questions).outputs for name in processors]
    differing = {name for name in files if any((each[name][0] != answered[0][name][0]).any() for each in answered)}
    expected = {f"{number}" for number, steps in enumerate(DRAWN) if steps in APART}
    assert differing <= expected
    assert len(differing) > 0.6 * len(expected), "what a scalar would meet is named too"


@pytest.mark.processors
def test_a_residual_network_answers_the_same_everywhere(tmp_path):
    onnx.write(fake_quantized(residual(), images(64)), tmp_path, "int8", classes=())
    question = {"file": Question("onnxruntime", (tmp_path / onnx.FILE).read_bytes(), images(512, seed=5))}
    (expected,) = ask("this", question).outputs["file"]
    for name in PROCESSORS:
        if not missing(name):
            np.testing.assert_array_equal(ask(name, question).outputs["file"][0], expected, err_msg=name)
