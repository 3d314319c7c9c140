"""Saturation, seen in numbers alone: the rule by brute force, each kind of kernel, both compared with processors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from integer_kernels import EXACT, LIMIT, OVER, SATURATING, UNKNOWN, WILD, between, ends, kernel, rows
from onnx import helper, numpy_helper

from tasks.formats.audit import LayerAudit
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx import saturation as onnx_saturation
from tasks.quantization.saturation import convolution_rows, convolution_saturates, matrix_saturates, saturating

ROOT = Path(__file__).parents[2]
QEMU = shutil.which("qemu-x86_64")
needs_qemu = pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is not here: apt-get install qemu-user")

weights = st.one_of(st.integers(-128, 127), st.sampled_from([-128, -65, -64, -1, 0, 1, 63, 64, 65, 127]))
few = st.integers(1, 3)


def differs(column: np.ndarray) -> bool:
    """VPMADDUBSW on each pair, with both activations at either end: whether 16 bits give other than what is right."""
    filled = [*map(int, column), 0][: len(column) + len(column) % 2]
    for first, second in zip(filled[0::2], filled[1::2], strict=True):
        for u0 in (0, 255):
            for u1 in (0, 255):
                right = u0 * first + u1 * second
                if np.clip(right, -32768, 32767) != right:
                    return True
    return False


@given(arrays(np.int8, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=weights))
def test_the_rule_is_what_the_instruction_does(matrix):
    assert saturating(matrix).tolist() == [differs(column) for column in matrix.T]
    assert matrix_saturates(matrix) == saturating(matrix).any()


@given(
    arrays(
        np.int8, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)), elements=weights
    )
)
def test_a_convolution_meets_in_the_order_height_width_channel(weight):
    channels, inputs, height, width = weight.shape
    for o in range(channels):
        order = [weight[o, i, h, w] for h in range(height) for w in range(width) for i in range(inputs)]
        assert convolution_rows(weight)[:, o].tolist() == order
    assert convolution_saturates(weight, 1) == (
        (inputs, channels) != (1, 1) and any(differs(column) for column in convolution_rows(weight).T)
    )


def test_filled_up_channels_meet_others():
    """Three channels at two places: (a, b) (c, a) (b, c) as they are, (a, b) (c, 0) (a, b) (c, 0) in fours."""
    weight = np.array([[[[100, 100]], [[0, 0]], [[100, 0]]]], np.int8)
    assert saturating(convolution_rows(weight)).all()
    assert not saturating(convolution_rows(weight, multiple=4)).any()
    assert len(convolution_rows(weight, multiple=4)) == 8


@pytest.mark.parametrize("kind", SATURATING)
def test_each_kernel_is_at_its_limit_or_over_it(kind):
    accused = {how: onnx_saturation.saturating(ir.from_proto(SATURATING[kind](how)[0])) for how in (LIMIT, OVER, WILD)}
    assert accused == {LIMIT: set(), OVER: {"layer/op"}, WILD: {"layer/op"}}


@pytest.mark.parametrize("kind", EXACT)
def test_kernels_that_are_exact_are_not_accused(kind):
    assert not any(onnx_saturation.saturating(ir.from_proto(EXACT[kind](how)[0])) for how in (LIMIT, OVER, WILD))


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_comes_in_a_run_may_be_anything(kind):
    assert onnx_saturation.saturating(ir.from_proto(UNKNOWN[kind](WILD)[0])) == {"layer/op"}


def asked(content: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    (answer,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, inputs)
    return answer


@pytest.mark.parametrize("kind", SATURATING)
def test_unsigned_weights_are_the_same_integers(kind, tmp_path):
    file = tmp_path / "model.onnx"
    proto, inputs = SATURATING[kind](LIMIT)
    file.write_bytes(proto.SerializeToString())
    assert onnx_saturation.unsigned(file) is None, "at the limit there is nothing to mend"
    proto, inputs = SATURATING[kind](WILD)
    file.write_bytes(proto.SerializeToString())
    content = onnx_saturation.unsigned(file)
    mended = onnx_saturation.saturating(ir.from_proto(type(proto).FromString(content)))
    assert mended == set()
    if not onnx_saturation.processor_saturates():  # elsewhere the file's own answers are wrong
        np.testing.assert_array_equal(asked(content, inputs), asked(file.read_bytes(), inputs))


def two_that_share() -> tuple[bytes, dict[str, np.ndarray]]:
    """Two convolutions with the same kernel behind one DequantizeLinear, whose zero is not zero."""
    proto, inputs = between("Conv", kernel((4, 4, 3, 3), WILD), (1, 4, 6, 6), pads=[1, 1, 1, 1])
    (zero,) = [constant for constant in proto.graph.initializer if constant.name == "zw"]
    zero.CopyFrom(numpy_helper.from_array(np.full(4, 3, np.int8), "zw"))
    proto.graph.node[-1].output[0] = "between"
    proto.graph.node.extend(
        [
            helper.make_node("Conv", ["between", "wd"], ["sum2"], name="again/op", pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", ["sum2", "sy", "zy"], ["yq2"]),
            helper.make_node("DequantizeLinear", ["yq2", "sy", "zy"], ["y"]),
        ]
    )
    return proto.SerializeToString(), inputs


def test_operators_that_share_their_weights_are_mended_too(tmp_path):
    """ONNX Runtime's own switch refuses such a file."""
    content, inputs = two_that_share()
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert onnx_saturation.layers(file) == ("layer", "again")
    mended = asked(onnx_saturation.unsigned(file), inputs)
    assert len(np.unique(mended)) > 3
    if not onnx_saturation.processor_saturates():
        np.testing.assert_array_equal(mended, asked(content, inputs))


def test_the_audit_names_the_layer_that_is_over_the_limit_by_one(tmp_path):
    for how, saturates in ((LIMIT, False), (OVER, True)):
        proto, inputs = between("Conv", kernel((5, 3, 3, 3), how), (1, 3, 6, 6))
        (tmp_path / onnx.FILE).write_bytes(proto.SerializeToString())
        audit = onnx.audit(tmp_path, inputs["x"])
        expected = LayerAudit(name="layer", kernel="QLinearConv", macs=2160, integer=True, saturates=saturates)
        assert audit.layers == (expected,)
        words = "no: layers layer can saturate on x86 without VNNI"
        assert audit.everywhere_in_words == (words if saturates else "yes")
        assert onnx.saturating(tmp_path) == (("layer",) if saturates else ())


def test_a_layer_that_runs_in_float_does_not_saturate(tmp_path):
    proto, inputs = between("Conv", kernel((5, 3, 3, 3), WILD), (1, 3, 6, 6), behind=False)
    (tmp_path / onnx.FILE).write_bytes(proto.SerializeToString())
    (layer,) = onnx.audit(tmp_path, inputs["x"]).layers
    assert (layer.integer, layer.saturates) == (False, False)


@pytest.mark.parametrize(
    ("kind", "macs"),
    [
        ("DynamicQuantizeLSTM, what it takes", 2 * 20 * (6 + 5)),
        ("DynamicQuantizeMatMul", 7 * 9),
        ("MatMulIntegerToFloat", 7 * 9),
    ],
)
def test_integer_operators_of_other_tools_are_audited(kind, macs, tmp_path):
    proto, inputs = SATURATING[kind](OVER)
    (tmp_path / onnx.FILE).write_bytes(proto.SerializeToString())
    (layer,) = onnx.audit(tmp_path, inputs["x"]).layers
    assert (layer.kernel, layer.macs) == (kind.split(",")[0], macs), "for one row, or one step"
    assert (layer.integer, layer.saturates) == (True, True)


def test_whether_this_processor_saturates_is_what_its_kernels_do():
    x, matrix = ends((8, 7)), rows(7, 9, WILD)
    proto, inputs = SATURATING["MatMulInteger"](WILD)
    right = x.astype(np.int32) @ matrix.astype(np.int32)
    assert onnx_saturation.processor_saturates() == bool((asked(proto.SerializeToString(), inputs) != right).any())


def on(processor: str, *program: str) -> str:
    """What a Python program prints on another processor, or on this one if that is what it is."""
    here = {"right": not onnx_saturation.processor_saturates(), "saturating": onnx_saturation.processor_saturates()}
    command = [] if here.get(processor) else [QEMU, "-cpu", PROCESSORS.get(processor, processor)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command += [sys.executable, *program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


PROCESSORS = {"right": "Nehalem", "saturating": "Haswell"}  # no AVX2, whose kernels widen; AVX2 and no VNNI
SAYS = "from tasks.formats.onnx.saturation import processor_saturates; print(processor_saturates())"


@needs_qemu
@pytest.mark.processors
def test_processors_are_told_apart():
    assert on("Haswell", "-c", SAYS).strip() == "True"
    assert on("Nehalem", "-c", SAYS).strip() == "False"


@needs_qemu
@pytest.mark.processors
def test_the_word_is_what_a_processor_without_vnni_does(tmp_path):
    """Every kind of kernel: exact and wrong where the rule says so, right with unsigned weights."""
    program = "tests/support/integer_kernels.py"
    on("right", program, str(tmp_path / "right.npz"))
    on("saturating", program, str(tmp_path / "actual.npz"))
    with np.load(tmp_path / "right.npz") as right, np.load(tmp_path / "actual.npz") as actual:
        wrong = {name for name in right if "LSTM" not in name and not np.array_equal(right[name], actual[name])}
        near = all(
            np.allclose(right[name], actual[name], atol=1e-6) for name in right if "LSTM" in name and LIMIT in name
        )
        assert set(right) == set(actual)
    accused = {f"{kind}|{WILD}|as it is" for kind in SATURATING | UNKNOWN if "LSTM" not in kind}
    assert wrong == accused
    assert near, "gates are in float, whose last digits differ"


LOADS = """
import sys
import numpy as np
from pathlib import Path
from tasks.formats.onnx import files as onnx
x = np.load(sys.argv[2])
plain = onnx._session(sys.argv[1] + "/model.onnx", 1)
np.savez(sys.argv[3], plain=plain.run(None, {"x": x})[0], loaded=onnx.load(Path(sys.argv[1]))(x))
"""


@needs_qemu
@pytest.mark.processors
def test_a_file_that_can_saturate_is_opened_rightly_where_it_matters(tmp_path):
    content, inputs = two_that_share()
    (tmp_path / onnx.FILE).write_bytes(content)
    np.save(tmp_path / "x.npy", inputs["x"])
    answers = {}
    for processor in PROCESSORS:
        on(processor, "-c", LOADS, str(tmp_path), str(tmp_path / "x.npy"), str(tmp_path / f"{processor}.npz"))
        with np.load(tmp_path / f"{processor}.npz") as outputs:
            answers[processor] = dict(outputs)
    right, there = answers["right"], answers["saturating"]
    np.testing.assert_array_equal(right["plain"], right["loaded"])
    np.testing.assert_array_equal(there["loaded"], right["plain"])
    assert (there["plain"] != right["plain"]).mean() > 0.05
