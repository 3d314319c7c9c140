"""Bundles of a version with two inputs and two outputs: every server's files, requests and programs by their names."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import several_ends

from tasks.bundle import bundle
from tasks.bundles import BUNDLES
from tasks.bundles.client import running
from tasks.bundles.contents import BundleConfig, Contents
from tasks.bundles.trial import TrialConfig
from tasks.contract.errors import ServerFailed, SmokeTestFailed
from tasks.contract.named import Array, field, fields
from tasks.trial import trial
from tasks.versions.manifest import write_manifest

QUICK = TrialConfig(requests=20)
WAYS = {"tfserving": set(), "triton": set(), "edge": {"LiteRT"}, "docker": {"gRPC", "REST"}, "kserve": {"gRPC", "REST"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "version"
    return several_ends.lay_out(folder, "onnxruntime", "litert", "savedmodel", "tensorrt")


@pytest.fixture(scope="module")
def bundles(made, tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for server in BUNDLES:
        folders[server] = tmp_path_factory.mktemp(server)
        bundle(folders[server], server, Contents("two", 1, made[0], BundleConfig(max_batch=16)))
    return folders


@pytest.mark.parametrize("server", BUNDLES)
def test_a_bundle_answers_as_keras_does(server, bundles, made, tmp_path):
    result = trial(Path(shutil.copytree(bundles[server], tmp_path / server)), QUICK)
    assert result.examples == 16
    assert result.largest_difference < 1e-3, "of an output in hundreds"
    assert set(result.latency_p50_ms) == WAYS[server]


@pytest.mark.parametrize(
    ("server", "target"), [("docker", "onnxruntime"), ("edge", "litert"), ("triton", "onnxruntime")]
)
def test_a_trial_notices_one_output_of_two(server, target, bundles, tmp_path):
    folder = Path(shutil.copytree(bundles[server], tmp_path / server))
    place = folder / ("model" if server == "docker" else ".") / "sample.npz"
    with np.load(place) as sample:
        kept = dict(sample)
    kept[target]["kind"] = kept[target]["kind"][::-1]
    np.savez(place, **kept)
    for sealed in dict.fromkeys((place.parent, folder)):
        about = json.loads((sealed / "manifest.json").read_text())
        del about["files"]
        (sealed / "manifest.json").unlink()
        write_manifest(sealed, **about)
    raised = ServerFailed if server == "docker" else SmokeTestFailed  # that server does not come up
    with pytest.raises(raised, match="by kind otherwise than when the version was registered"):
        trial(folder, QUICK)


def test_triton_s_configuration_has_every_tensor(bundles, made):
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    for repository in ("cpu", "gpu"):
        model = bundles["triton"] / repository / "two"
        config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert [(each.name, list(each.dims)) for each in config.input] == [("scene", [6, 6, 1]), ("facts", [3])]
        assert [(each.name, list(each.dims)) for each in config.output] == [("kind", [3]), ("box", [2])]
        assert [each.label_filename for each in config.output] == ["labels_kind.txt", ""]
        assert (model / "labels_kind.txt").read_text().split() == ["cat", "dog", "eel"]
        for name, warm in config.model_warmup[0].inputs.items():
            values = np.frombuffer((model / "warmup" / warm.input_data_file).read_bytes(), np.float32)
            np.testing.assert_array_equal(values.reshape(list(warm.dims)), field(made[1], name)[0])
        assert set(config.model_warmup[0].inputs) == {"scene", "facts"}
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_profile_max_shapes"] == "scene:16x6x6x1,facts:16x3"


def printed(output: str) -> tuple[list[str], Array]:
    """What a program says of `kind`, and its numbers of `box`."""
    answers = [json.loads(line) for line in output.splitlines()]
    assert set(answers[0]) == {"kind", "box"}
    assert set(answers[0]["box"]) == {"scores"}
    return [answer["kind"]["label"] for answer in answers], np.array([answer["box"]["scores"] for answer in answers])


def test_what_the_page_says_is_asked_is_answered(bundles, made, tmp_path):
    folder = Path(shutil.copytree(bundles["docker"], tmp_path / "docker"))
    _, _, y = made
    with running(folder, folder / "model", QUICK) as (ports, _):
        address = f"127.0.0.1:{ports['REST']}"
        (line,) = [line for line in (folder / "README.md").read_text().splitlines() if "@request.json" in line]
        command = shlex.split(line.replace("127.0.0.1:8080", address))
        asked = subprocess.run([*command, "--silent"], cwd=folder, capture_output=True, text=True, timeout=60)
        given = {output["name"]: output["data"] for output in json.loads(asked.stdout)["outputs"]}
        for name, values in fields(y[:1]).items():
            np.testing.assert_allclose(given[name], values[0], rtol=1e-5, atol=1e-4)
        done = subprocess.run(
            [sys.executable, "ask.py", address], cwd=folder, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    labels, boxes = printed(done.stdout)
    assert labels == [several_ends.KINDS[number] for number in y["kind"].argmax(axis=1)]
    np.testing.assert_allclose(boxes, y["box"], rtol=1e-5, atol=1e-4)
    page = (folder / "README.md").read_text()
    assert "`scene` float32 `(n, 6, 6, 1)`" in page
    assert "`kind` float32 `(n, …)`: a probability for each of 3 classes" in page
    assert (
        f"begins with `kind` {', '.join(f'{value:.4f}' for value in y['kind'][0])}; `box` {y['box'][0, 0]:.2f}"[:40]
        in page
    )


def test_tensorflow_serving_s_request_names_inputs_and_fits_the_signature(bundles, made):
    import tensorflow as tf

    folder = bundles["tfserving"]
    (instance,) = json.loads((folder / "request.json").read_text())["instances"]
    function = tf.saved_model.load(str(folder / "models" / "two" / "1")).signatures["serving_default"]
    answers = function(**{name: tf.constant([values]) for name, values in instance.items()})
    for name, values in fields(made[2][:1]).items():
        np.testing.assert_allclose(answers[name], values, rtol=1e-5, atol=1e-4)


def test_the_edge_program_takes_an_npz_by_name(bundles, made, tmp_path):
    folder = Path(shutil.copytree(bundles["edge"], tmp_path / "edge"))
    page = (folder / "README.md").read_text()
    assert "`labels_kind.txt`" in page
    x = several_ends.examples(5, seed=4)
    np.savez(folder / "mine.npz", **dict(reversed(fields(x).items())))
    done = subprocess.run(
        [sys.executable, "predict.py", "mine.npz"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    from tasks.keras_graph.asked import asked

    y = asked(several_ends.model(), x)
    labels, boxes = printed(done.stdout)
    assert labels == [several_ends.KINDS[number] for number in y["kind"].argmax(axis=1)]
    np.testing.assert_allclose(boxes, y["box"], rtol=1e-4, atol=1e-3)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert [each["name"] for each in metadata["inputs"]] == ["scene", "facts"]
    assert [(each["name"], each["shape"]) for each in metadata["outputs"]] == [("kind", [1, 3]), ("box", [1, 2])]
    assert metadata["labels"] == {"kind": ["cat", "dog", "eel"], "box": []}


def test_the_edge_program_reckons_in_the_steps_of_each_end(tmp_path):
    made, _, y = several_ends.lay_out(tmp_path / "version", "litert", integers=True)
    folder = tmp_path / "edge"
    folder.mkdir()
    bundle(folder, "edge", Contents("two", 1, made, BundleConfig()))
    program = (folder / "predict.py").read_text()
    assert program.count("np.round(examples[") == program.count('scores.astype("float32")') == 2
    trial(folder, QUICK)
    done = subprocess.run([sys.executable, "predict.py"], cwd=folder, capture_output=True, text=True, timeout=120)
    _, boxes = printed(done.stdout)
    np.testing.assert_allclose(boxes, y["box"], atol=0.03 * np.ptp(y["box"]))
