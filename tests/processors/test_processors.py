"""How other processors are asked, and the message where they cannot be: needs no QEMU."""

import os
import platform
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import integer_kernels
import numpy as np
import pytest
from command_line import ROOT
from registered import sealed_anew, versions
from small_models import convolutional, images

from tasks.bundles.contents import BundleConfig, Contents
from tasks.bundles.trial import TrialConfig
from tasks.contract.errors import ProcessorFailed, ProcessorMissing
from tasks.formats import FORMATS
from tasks.formats.last_integers import VISIBLE, Visible, floats_between
from tasks.formats.onnx import audit as onnx_audit
from tasks.formats.slimline_pyfunc import as_steps, as_values
from tasks.processors import PROCESSORS, Question, arm64, ask, missing, python
from tasks.quantization.fake_quantization import fake_quantized

X = images(8)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A model with a softmax at its end, in integers for each runtime that other processors have, by target."""
    folders = {}
    quantized = fake_quantized(convolutional(), images(64))
    for target in VISIBLE:
        folders[target] = tmp_path_factory.mktemp(target)
        FORMATS[target].write(quantized, folders[target], "int8", classes=())
    return folders


def content(folder: Path, target: str) -> bytes:
    return (folder / FORMATS[target].FILE).read_bytes()


def test_the_program_asks_as_load_does(files):
    """Bit by bit: what is asked elsewhere is the file as it is asked here."""
    answers = ask("this", {target: Question(target, content(files[target], target), X) for target in files})
    for target, folder in files.items():
        (outputs,) = answers.outputs[target]
        np.testing.assert_array_equal(outputs, FORMATS[target].load(folder)(X))
    assert set(answers.libraries) == {"numpy", "onnxruntime", "ai-edge-litert"}
    assert answers.libraries["numpy"] == np.__version__


def test_the_last_integers_are_the_files_own(files):
    """The answers are what they were, and the softmax of what the integers mean."""
    visible = {target: VISIBLE[target](content(folder, target)) for target, folder in files.items()}
    answers = ask("this", {target: Question(target, visible[target].model, X) for target in files})
    for target, folder in files.items():
        outputs, logits = answers.outputs[target]
        np.testing.assert_array_equal(outputs, FORMATS[target].load(folder)(X))
        assert list(visible[target].scales) == [1]
        steps = logits / visible[target].scales[1]
        assert np.abs(steps - steps.round()).max() < 1e-3
        assert len(np.unique(steps.round())) > 10
        softmax = np.exp(logits.astype(np.float64))
        np.testing.assert_allclose(softmax / softmax.sum(1, keepdims=True), outputs, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["MatMul", "Gemm", "Conv"])
def test_the_kernels_stay_what_they_were(kernel, tmp_path):
    """A product that nobody sees in integers is made with them; seen, it would not be."""
    from onnx import TensorProto, helper

    proto, inputs = integer_kernels.SATURATING[kernel](integer_kernels.LIMIT)
    proto.graph.node.append(helper.make_node("Softmax", ["y"], ["p"]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    file, example = tmp_path / "model.onnx", next(iter(inputs.values()))
    ran = []
    for content in (proto.SerializeToString(), VISIBLE["onnxruntime"](proto.SerializeToString()).model):
        file.write_bytes(content)
        kernels = onnx_audit.audit(file, example).kernels
        ran.append({name: count for name, count in kernels.items() if name.startswith("Q")})
    assert ran[0] == ran[1]
    assert {"MatMul": "QLinearMatMul", "Gemm": "QGemm", "Conv": "QLinearConv"}[kernel] in ran[1]


def test_integers_at_a_files_own_ends_stay_so(tmp_path):
    FORMATS["litert"].write(fake_quantized(convolutional(), images(64)), tmp_path, "int8", classes=(), integer_io=True)
    from tasks.formats.tflite.signature import tensors
    from tasks.processors.versions import _details

    input_details, output_details = map(_details, tensors(tmp_path / FORMATS["litert"].FILE))
    model = content(tmp_path, "litert")
    assert VISIBLE["litert"](model) == Visible(model, {0: 1.0})
    (outputs,) = ask("this", {"": Question("litert", model, as_steps(X, input_details))}).outputs[""]
    assert outputs.dtype == np.int8
    np.testing.assert_array_equal(as_values(outputs, output_details), FORMATS["litert"].load(tmp_path)(X))


def test_floats_between_integers_are_found(files, tmp_path):
    import tensorflow as tf

    def floats(folder: Path, example: np.ndarray) -> list[str]:
        kernels = FORMATS["onnxruntime"].audit(folder, example).kernels
        return floats_between(content(folder, "onnxruntime"), kernels)

    assert floats(files["onnxruntime"], X[:1]) == [], "its softmax is behind them"
    layers = tf.keras.layers
    inputs = tf.keras.Input((6,), name="input")
    outputs = layers.Dense(3, name="second")(layers.Dense(5, activation="tanh", name="first")(inputs))
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    quantized = fake_quantized(tf.keras.Model(inputs, outputs, name="between"), x)
    FORMATS["onnxruntime"].write(quantized, tmp_path, "int8", classes=())
    assert floats(tmp_path, x[:1]) == ["Tanh"]


def test_a_step_is_more_than_integers_may_differ_by(home):
    """Unless a float kernel was before them; and in float as much as its last bits."""
    from tasks.processors.versions import _compared, _opened
    from tasks.store import tracking
    from tasks.versions.version import open_version

    version = open_version("models:/tiny/1", tracking.download("models:/tiny/1"))
    file = _opened(version, version.shipped()[0])
    assert (file.about.target, file.about.precision, file.inexact) == ("onnxruntime", "int8", False)
    ((number, scale),) = file.visible.scales.items()
    assert number == 1
    logits = np.full((len(file.recorded), 10), 7 * scale, np.float32)
    here = {"onnxruntime": [file.recorded, logits]}
    result = _compared("this", "it", file, here, here)
    assert (result.differing, result.steps, result.holds) == (0, 0, True)
    assert result.in_words == "the same, bit by bit"

    off = logits.copy()
    off[4, 1] = 6 * scale
    there = {"onnxruntime": [file.recorded, off]}
    result = _compared("this", "it", file, there, here)
    assert (result.steps, result.holds) == (1, False)
    assert "the last integers by up to 1 steps" in result.in_words
    assert _compared("this", "it", replace(file, inexact=True), there, here).holds

    for away, holds in ((1e-6, True), (1e-4, False)):
        answers = {"onnxruntime": [(file.recorded.astype(np.float64) + away).astype(np.float32), logits]}
        result = _compared("this", "it", file, answers, here)
        assert (result.holds, result.steps) == (holds, 0)
        assert ("the same integers, bit by bit" in result.in_words) == holds
    answers = {"onnxruntime": [file.recorded * np.float32(np.nan), logits]}
    assert "16 of 16 examples are answered with NaN" in _compared("this", "it", file, answers, here).in_words


def test_the_file_that_fails_is_named(files):
    good = Question("onnxruntime", content(files["onnxruntime"], "onnxruntime"), X)
    broken = Question("onnxruntime", good.model[:100], X)
    with pytest.raises(ProcessorFailed, match=r"^this: the broken one is not answered there: exit code 1, .*Protobuf"):
        ask("this", {"a good one": good, "the broken one": broken})
    with pytest.raises(ProcessorFailed, match=r"no answers within 0\.01 s: ask fewer files at once than 1"):
        ask("this", {"a good one": good}, patience=0.01)


def test_nothing_of_this_process_goes_along(monkeypatch):
    """A person's setting for this machine's kernels, or a path for its Python, would change who answers."""
    for name in ("OPENBLAS_CORETYPE", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "4")
    _, environment = python("this")
    assert environment["OMP_NUM_THREADS"] == "1"
    assert not {"OPENBLAS_CORETYPE", "PYTHONPATH", "LD_LIBRARY_PATH", "TF_ENABLE_ONEDNN_OPTS"} & set(environment)


OTHERS = [name for name in PROCESSORS if name != "this"]


@pytest.fixture
def no_qemu(monkeypatch, tmp_path) -> Path:
    """A machine on which no QEMU is installed; gives the only folder that programs are looked for in."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def installed(folder: Path, name: str, text: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_asked_says_why_and_how_it_could(name, no_qemu):
    assert missing("this") == ""
    emulator = PROCESSORS[name].emulator
    reason = f"{emulator} is not installed: apt-get install qemu-user"
    if sys.platform != "linux":
        reason = "QEMU runs programs for other processors on Linux only"
    elif emulator == "qemu-x86_64" and platform.machine() != "x86_64":
        reason = "this Python and its libraries are for"
    assert missing(name).startswith(reason)
    with pytest.raises(ProcessorMissing, match=f"^{name}: {reason}"):
        ask(name, {})


@pytest.mark.skipif(sys.platform != "linux", reason="QEMU's user mode runs on Linux")
def test_an_arm64_system_that_is_not_made_says_so(no_qemu, monkeypatch, tmp_path):
    installed(no_qemu, "qemu-aarch64", "exit 1")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert missing("ARM64") == "no ARM64 system is here: make processors"
    with pytest.raises(ProcessorMissing, match="ARM64: apt-get is not installed"):
        arm64.make()
    for name in ("apt-get", "apt-cache", "dpkg"):
        installed(no_qemu, name, "echo 'Unable to fetch some index files' >&2; exit 100")
    with pytest.raises(ProcessorMissing, match="servers offer no packages for it: apt-get ended with 100: Unable"):
        arm64.make()
    assert not arm64.folder().exists()
    assert not [left for left in arm64.folder().parent.iterdir() if left.is_dir()], "nothing half made stays"


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="for Linux on x86")
def test_an_older_qemu_is_found_out(no_qemu):
    """It does not know AVX2 and goes on without; this one goes on with all that the machine has."""
    installed(
        no_qemu, "qemu-x86_64", '[ "$1" = --version ] && echo "qemu-x86_64 version 6.2.0" || { shift 2; exec "$@"; }'
    )
    with pytest.raises(
        ProcessorMissing, match=r"x86 without AVX2: QEMU 6\.2\.0 gives it AVX2: take QEMU 7\.2 or later"
    ):
        ask("x86 without AVX2", {})


def test_arm64_has_what_this_environment_is_locked_to():
    """Other versions would be other kernels."""
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^(\S+==\S+) \\$", arm64.WHEELS.read_text(), re.MULTILINE)
    assert {pin.split("==")[0] for pin in pins} >= {"numpy", "onnxruntime", "ai-edge-litert"}
    ours = [pin for pin in pins if re.search(rf"^{pin.split('==')[0]}==", lock, re.MULTILINE)]
    assert len(ours) >= len(pins) - 1  # a backport that Python 3.11 does not need, and asks for nonetheless
    for pin in ours:
        assert re.search(rf"^{re.escape(pin)} ", lock, re.MULTILINE), f"{pin}: make lock"
    assert "://" not in arm64.WHEELS.read_text()
    assert {each.model for each in PROCESSORS.values() if each.emulator == "qemu-aarch64"} == set(arm64.MODELS)


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """A version in integers for both runtimes."""
    home = tmp_path_factory.mktemp("state")
    settings = {"targets": ["onnxruntime", "litert"], "quantize": {"method": "post_training"}}
    with versions(home, empty_store, settings):
        yield home


def test_a_version_is_verified_on_what_is_here(home, no_qemu):
    from flows.verify import verify

    result = verify("models:/tiny/1", processors=True)
    assert result.holds
    for target in VISIBLE:
        assert f"| this | {target} | the same, bit by bit |" in result.page
    for name in OTHERS:
        assert f"Not asked on {name}: {missing(name)}." in result.page
    assert "QEMU emulates no AVX-512" in result.page
    assert "| this |" not in verify("models:/tiny/1").page, "unless asked for"


def test_answers_that_differ_are_counted_and_end_the_command(home, no_qemu):
    from tasks.store import tracking

    file = tracking.download("models:/tiny/1") / "sample.npz"
    kept = file.read_bytes()
    with np.load(file) as sample:
        arrays = dict(sample)
    arrays["onnxruntime"][3:5] += 0.25
    np.savez(file, **arrays)
    try:
        command = [sys.executable, "-m", "flows.cli", "verify", "models:/tiny/1", "--processors"]
        environment = {**os.environ, "PATH": str(no_qemu)}
        with sealed_anew(1):
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        file.write_bytes(kept)
    assert done.returncode == 1, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| this | onnxruntime |"))
    assert "2 of 16 examples' answers differ by up to 0.25" in row
    assert row.endswith("**differs** |")
    assert "| this | litert | the same, bit by bit |" in done.stdout


def test_a_bundle_for_small_devices_says_where_it_was_not_tried(home, no_qemu, tmp_path):
    from tasks.bundle import bundle
    from tasks.store import tracking
    from tasks.trial import trial
    from tasks.versions.version import open_version

    uri, place = "models:/tiny/1", tmp_path / "edge"
    place.mkdir()
    bundle(place, "edge", Contents("tiny", 1, open_version(uri, tracking.download(uri)), BundleConfig()))
    result = trial(place, TrialConfig(requests=20))
    assert f"not run on ARM64: {missing('ARM64')}" in result.ran
    assert result.server_run
    assert result.largest_difference < 1e-6
