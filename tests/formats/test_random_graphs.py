"""Random small graphs through fake quantization, every format, and its audit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, note, settings
from hypothesis import strategies as st
from random_graphs import BESIDE, IMAGE, built, graphs, heads, with_beside

from tasks.contract.named import packed
from tasks.formats import FORMATS
from tasks.formats.last_integers import floats_between, onnx_visible
from tasks.formats.parity import targets_apart
from tasks.keras_graph.names import signature_names
from tasks.processors import Question, ask, missing
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import is_fake_quantized

TARGETS = ("onnxruntime", "litert", "savedmodel")
X = np.random.default_rng(0).normal(0, 1, (32, *IMAGE)).astype(np.float32)


@settings(max_examples=2, deadline=None)  # six files a graph: more are drawn below
@given(graph=graphs, head=heads)
@example(graph=(("residual", 2, "tanh"),), head="none")
@example(
    graph=(("depthwise", 2, 1, "sigmoid"), ("shared", "relu"), ("concatenate", 4), ("separable", 5, "tanh")),
    head="softmax",
)
@example(graph=(("transposed", 3, "relu6"), ("gate",), ("pad", 1), ("nested", 3)), head="flat")
def test_any_graph_answers_the_same_in_every_format(graph, head, tmp_path_factory):
    answers_the_same_in_every_format(graph, head, tmp_path_factory)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs, head=heads)
def test_200_graphs_answer_the_same_in_every_format(graph, head, tmp_path_factory):
    answers_the_same_in_every_format(graph, head, tmp_path_factory)


@settings(max_examples=1, deadline=None)
@given(graph=graphs, head=heads)
@example(graph=(("depthwise", 2, 3, "relu"), ("gate",), ("nested", 3)), head="softmax")
def test_any_graph_with_ends_beside_its_own_answers_the_same(graph, head):
    answers_the_same_at_several_ends(graph, head)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs, head=heads)
def test_200_graphs_with_ends_beside_their_own_answer_the_same(graph, head):
    answers_the_same_at_several_ends(graph, head)


def answers_the_same_at_several_ends(graph, head):
    model = with_beside(graph, head)
    x = packed({"input": X, "beside": np.random.default_rng(1).normal(size=(len(X), BESIDE)).astype(np.float32)})
    names = signature_names(model)
    quantized = fake_quantized(model, x)
    for precision, source in (("float32", model), ("int8", quantized)):
        assert signature_names(source) == names
        assert targets_apart(source, TARGETS, precision, x, len(x)) == {}


def answers_the_same_in_every_format(graph, head, tmp_path_factory):
    model = built(graph, head)
    quantized = fake_quantized(model, X)
    assume(is_fake_quantized(quantized))  # something in it multiplies
    for precision, source in (("float32", model), ("int8", quantized)):
        expected = source(X).numpy()
        for target in TARGETS:
            form, folder = FORMATS[target], tmp_path_factory.mktemp(target)
            form.write(source, folder, precision, classes=())
            actual = form.load(folder)(X)
            audit = form.audit(folder, X[:1])
            note(f"{target} in {precision}: {audit}")
            assert audit.everywhere, (target, audit.everywhere_in_words)
            if precision == "float32":
                np.testing.assert_allclose(
                    actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=target
                )
                assert audit.integer_share == 0
                continue
            # One step off before a tanh is many behind it, so that only the mean is bound closely
            off = np.abs(actual - expected) / (max(np.ptp(expected), 1e-6) / 255)
            note(f"{off.max():.2f} steps off at most, {off.mean():.3f} in the mean")
            assert off.mean() < 1.5, target
            assert off.max() < 30, target
            if target != "savedmodel":  # which computes all in float
                assert {layer.kernel for layer in audit.in_float} <= {"ConvTranspose"}, target
            assert all(layer.why for layer in audit.in_float), target


WITHOUT_VNNI = "x86 with AVX2, without VNNI"
ENDS = np.where(np.random.default_rng(1).random(X.shape) < 0.5, X.min(), X.max())  # where sums are the largest


@pytest.mark.processors
@pytest.mark.skipif(bool(missing(WITHOUT_VNNI)), reason=missing(WITHOUT_VNNI) or "it is here")
@settings(max_examples=2, deadline=None)
@given(drawn=st.lists(st.tuples(graphs, heads), min_size=8, max_size=8))
def test_what_the_audit_says_is_what_a_processor_without_vnni_does(drawn, tmp_path_factory):
    form, files, says = FORMATS["onnxruntime"], {}, {}
    for number, (graph, head) in enumerate(drawn):
        model = built(graph, head)
        for kernels in ("pairs", "full"):
            quantized = fake_quantized(model, X, kernels=kernels)
            if not is_fake_quantized(quantized):
                continue
            folder = tmp_path_factory.mktemp("file")
            form.write(quantized, folder, "int8", classes=())
            content, audit = (folder / form.FILE).read_bytes(), form.audit(folder, X[:1])
            assert audit.everywhere or kernels == "full", (graph, head, audit.everywhere_in_words)
            if not floats_between(content, audit.kernels):  # whose last bit may become a step
                files[f"{number} {kernels}"] = onnx_visible(content)
                says[f"{number} {kernels}"] = audit.everywhere
    assume(files)
    questions = {name: Question("onnxruntime", file.model, ENDS) for name, file in files.items()}
    there, here = (ask(name, questions).outputs for name in (WITHOUT_VNNI, "this"))
    differing = set()
    for name, outputs in here.items():
        if any(not np.array_equal(outputs[place], there[name][place]) for place in files[name].scales):
            differing.add(name)
    note(f"differ: {sorted(differing)} of {sorted(questions)}; {drawn}")
    assert not {name for name in differing if says[name]}, drawn
