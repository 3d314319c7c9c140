"""The same integers on processors that are not here: int8 files of every layer kind, and a registered version.

A processor that cannot be emulated here is skipped with the reason; `make processors` says how it could be.
"""

import functools

import integer_kernels
import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from processor_kinds import DRAWS, KINDS, SHAPES, built, examples
from registered import versions

from flows.shipped import RECIPES
from tasks.formats import FORMATS
from tasks.formats.last_integers import VISIBLE, Visible
from tasks.processors import PROCESSORS, Answers, Question, ask, missing
from tasks.quantization.fake_quantization import fake_quantized

pytestmark = pytest.mark.processors

EXACT, SATURATES, WRAPS = "x86 without AVX2", "x86 with AVX2, without VNNI", "ARM64 without dot products"
OTHERS = [name for name in PROCESSORS if name != "this"]
LAST_BITS = 1e-6  # of the largest answer; up to 1.2e-7 were seen behind a softmax, a sigmoid and a tanh
IN_FLOAT = ("transposed",)  # in ONNX Runtime, which has no integer kernel for it
# Keras computes a grouped convolution in a function of its own, which tf2onnx has no match for: one by hand stands in.
FILES = [
    f"{shape}, {weights}, {target}"
    for shape in SHAPES
    for weights in DRAWS
    for target in VISIBLE
    if (shape, target) != ("grouped", "onnxruntime")
]
BY_HAND = (
    *("Conv 4 to 16", "Conv", "Conv in groups", "Conv 1-D", "Gemm", "MatMul", "QGemm"),
    *("MatMulInteger one row", "MatMulInteger long"),
)


@pytest.fixture(scope="module")
def visible(tmp_path_factory) -> dict[str, Visible]:
    """Every file, its last integers visible."""
    visible = {}
    for shape in SHAPES:
        for weights in DRAWS:
            quantized = fake_quantized(built(shape, weights), examples(shape))
            for target, make_visible in VISIBLE.items():
                if (name := f"{shape}, {weights}, {target}") in FILES:
                    folder = tmp_path_factory.mktemp("file")
                    FORMATS[target].write(quantized, folder, "int8", classes=())
                    visible[name] = make_visible((folder / FORMATS[target].FILE).read_bytes())
    return visible


@pytest.fixture(scope="module")
def questions(visible) -> dict[str, Question]:
    """All that is asked, so that one process answers for it on each processor."""
    questions = {}
    for name, file in visible.items():
        shape, _, target = name.split(", ")
        questions[name] = Question(target, file.model, examples(shape))
    for kind in BY_HAND:
        for how in (integer_kernels.LIMIT, integer_kernels.WILD):
            for least in (-127, -128):
                proto, inputs = integer_kernels.SATURATING[kind](how)
                model = from_least(proto, least).SerializeToString()
                questions[f"{kind}, {how}, from {least}"] = Question("onnxruntime", model, next(iter(inputs.values())))
    return questions


def from_least(proto: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """A file whose signed weights are no smaller than that."""
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int8:
            tensor.CopyFrom(numpy_helper.from_array(np.maximum(values, least).astype(np.int8), tensor.name))
    return proto


@pytest.fixture(scope="module")
def answers(questions):
    """What a processor answers; asked once."""

    @functools.cache
    def of(processor: str) -> Answers:
        if reason := missing(processor):
            pytest.skip(f"{processor}: {reason}")
        return ask(processor, questions)

    return of


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("processor", OTHERS)
def test_integers_are_the_same_bit_by_bit(processor, file, answers, visible):
    there, here = (answers(name).outputs[file] for name in (processor, "this"))
    assert len(there) == len(here)
    integers = visible[file].scales
    assert len(integers) >= len(KINDS[file.split(", ")[0]]) - len(IN_FLOAT), "all but a few kinds end in integers"
    for number, (actual, expected) in enumerate(zip(there, here, strict=True)):
        if number in integers:
            np.testing.assert_array_equal(actual, expected, err_msg=str(number))
        else:
            away = LAST_BITS * np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=away, err_msg=str(number))


@pytest.mark.parametrize("kind", BY_HAND)
@pytest.mark.parametrize("processor", OTHERS)
def test_kernels_at_the_limit_are_the_same(processor, kind, answers):
    file = f"{kind}, {integer_kernels.LIMIT}, from -127"
    np.testing.assert_array_equal(answers(processor).outputs[file][0], answers(EXACT).outputs[file][0])


@pytest.mark.parametrize("kind", BY_HAND)
@pytest.mark.parametrize("processor", OTHERS)
def test_kernels_that_saturate_are_noticed(processor, kind, answers):
    """Or everything above would pass wherever nothing is really asked."""
    file = f"{kind}, {integer_kernels.WILD}, from -127"
    there, exact = (answers(name).outputs[file][0] for name in (processor, EXACT))
    assert np.array_equal(there, exact) == (processor != SATURATES)


@pytest.mark.parametrize("processor", OTHERS)
def test_weights_of_minus_128_are_noticed_on_arm(processor, answers):
    """Without dot products two products are added in 16 bits there, and (-128)(-128) twice is one too many.

    Nothing that Slimline writes has such weights: see the test below.
    """
    file = f"MatMulInteger long, {integer_kernels.LIMIT}, from -128"
    there, exact = (answers(name).outputs[file][0] for name in (processor, EXACT))
    assert np.array_equal(there, exact) == (processor != WRAPS)


def test_no_weight_is_minus_128(questions):
    models = [onnx.load_from_string(questions[file].model) for file in FILES if "onnxruntime" in file]
    tensors = [numpy_helper.to_array(tensor) for model in models for tensor in model.graph.initializer]
    weights = [values for values in tensors if values.dtype == np.int8 and values.ndim > 1]
    assert min(int(values.min()) for values in weights) == -127


@pytest.fixture(scope="module")
def version(tmp_path_factory, prefect_server, empty_store):
    """Of the recipe that ships, as `make run` makes it."""
    settings = yaml.safe_load(RECIPES["digits"].read_text())
    with versions(tmp_path_factory.mktemp("state"), empty_store, settings):
        yield "models:/digits/1"


def test_a_registered_version_answers_the_same_everywhere(version):
    from flows.verify import verify

    result = verify(version, processors=True)
    assert result.holds, result.page
    for processor in PROCESSORS:
        rows = [line for line in result.page.splitlines() if line.startswith(f"| {processor} |")]
        if reason := missing(processor):
            assert f"Not asked on {processor}: {reason}." in result.page
        else:
            assert [row.split(" | ")[1] for row in rows] == ["onnxruntime", "litert"]
            assert all("the same" in row for row in rows), rows


def test_a_version_that_saturates_is_found_out(version, tmp_path, caplog):
    """Its file by ONNX Runtime's own tool, as most make theirs, of a layer whose weights are all of one sign."""
    import tensorflow as tf
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    from tasks.processors.versions import everywhere
    from tasks.store import tracking
    from tasks.versions.version import SAMPLE, OpenVersion, open_version

    class Reader(CalibrationDataReader):
        batches = iter([{"input": examples("vector")}])

        def get_next(self):
            return next(self.batches, None)

    dense = tf.keras.layers.Dense(16, name="dense")
    inputs = tf.keras.Input(SHAPES["vector"], name="input")
    model = tf.keras.Model(inputs, dense(inputs), name="saturates")
    dense.set_weights([np.random.default_rng(0).uniform(0.5, 1, dense.kernel.shape), np.zeros(16)])
    FORMATS["onnxruntime"].write(model, tmp_path, "float32", classes=())
    file = tmp_path / "model.onnx"
    with caplog.at_level("ERROR"):  # its advice to pre-process
        quantize_static(file, file, Reader(), per_channel=True)
    x = examples("vector")
    right = ask(EXACT, {"": Question("onnxruntime", file.read_bytes(), x)}).outputs[""][0]
    np.savez(tmp_path / SAMPLE, examples=x, onnxruntime=right)
    evidence = open_version(version, tracking.download(version)).evidence
    shipped = next(each for each in evidence.files if each.shipped)
    assert (shipped.target, shipped.precision) == ("onnxruntime", "int8")
    of_one = evidence.model_copy(update={"files": (shipped,)})
    result = everywhere(OpenVersion("models:/saturates/1", tmp_path, of_one))
    rows = {row.processor: row for row in result.files}
    assert not result.holds
    assert not rows[SATURATES].holds
    assert rows[SATURATES].differing > len(x) / 2
    assert rows[SATURATES].steps > 10
    assert all(rows[name].in_words == "the same, bit by bit" for name in OTHERS if name in rows and name != SATURATES)


@pytest.mark.skipif(bool(missing("ARM64")), reason=missing("ARM64") or "it is here")
def test_a_bundle_for_small_devices_is_tried_on_arm64(version, tmp_path):
    from tasks.bundle import bundle
    from tasks.bundles.contents import BundleConfig, Contents
    from tasks.bundles.trial import TrialConfig
    from tasks.store import tracking
    from tasks.trial import trial
    from tasks.versions.version import open_version

    bundle(tmp_path, "edge", Contents("digits", 1, open_version(version, tracking.download(version)), BundleConfig()))
    result = trial(tmp_path, TrialConfig(requests=20))
    assert "on ARM64 too: cortex-a76, emulated by QEMU" in result.ran
    assert result.largest_difference < 1e-6
    assert set(result.latency_p50_ms) == {"LiteRT"}, "what is emulated has no times"
