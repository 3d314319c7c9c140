"""Bundles that are started, asked and timed; and what people hear when one fails."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from registered import EVERY_TARGET, version_folder

from tasks.bundle import bundle
from tasks.bundles import BUNDLES
from tasks.bundles.client import running
from tasks.bundles.contents import BundleConfig, Contents
from tasks.bundles.trial import TrialConfig
from tasks.contract.errors import BundleDamaged, BundleMismatch, PortTaken, ServerFailed, SmokeTestFailed, TooSlow
from tasks.trial import trial
from tasks.versions.manifest import write_manifest
from tasks.versions.recorded_answers import compare_answers
from tasks.versions.version import open_version

QUICK = TrialConfig(requests=20)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, prefect_server, empty_store) -> dict[str, Path]:
    """A bundle of one version for every server."""
    version = open_version("models:/tiny/1", version_folder(tmp_path_factory, empty_store, EVERY_TARGET))
    folders = {}
    for server in BUNDLES:
        folders[server] = tmp_path_factory.mktemp(server)
        bundle(folders[server], server, Contents("tiny", 1, version, BundleConfig()))
    return folders


@pytest.fixture
def copied(bundles, tmp_path):
    """A bundle to change; `seal` makes its manifest anew, as somebody would who changes it on purpose."""

    class Copied:
        def __call__(self, server: str) -> Path:
            return Path(shutil.copytree(bundles[server], tmp_path / server))

        def seal(self, folder: Path) -> None:
            about = json.loads((folder / "manifest.json").read_text())
            del about["files"]
            (folder / "manifest.json").unlink()
            write_manifest(folder, **about)

    return Copied()


@pytest.mark.parametrize(
    ("server", "ways"),
    [
        ("tfserving", set()),
        ("triton", set()),
        ("edge", {"LiteRT"}),
        ("docker", {"gRPC", "REST"}),
        ("kserve", {"gRPC", "REST"}),
    ],
)
def test_a_bundle_answers_as_when_it_was_registered(server, ways, copied):
    result = trial(copied(server), QUICK)
    assert result.examples == 16
    assert result.largest_difference < 1e-5
    assert result.server_run == (server not in ("tfserving", "triton")), "what was not run is not shown as run"
    assert set(result.latency_p50_ms) == ways
    assert all(took > 0 for took in result.latency_p50_ms.values())


BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "mlflow", "prefect", "tf2onnx", "flows"):
            raise ModuleNotFoundError(f"{name} is not in the image")
        return None

sys.meta_path.insert(0, Blocked())
"""


def recorded_labels(folder: Path) -> list[int]:
    with np.load(folder / "model" / "sample.npz") as sample:
        return sample["onnxruntime"].argmax(axis=1).tolist()


def asked_as_the_readme_says(folder: Path, port: int) -> list[str]:
    """The labels that `ask.py` prints; `curl` with `request.json` gets the first one's numbers."""
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if "@request.json" in line]
    address = f"127.0.0.1:{port}"
    command = shlex.split(line.replace("ADDRESS", address).replace("127.0.0.1:8080", address))
    asked = subprocess.run([*command, "--silent"], cwd=folder, capture_output=True, text=True, timeout=60)
    (output,) = json.loads(asked.stdout)["outputs"]
    with np.load(folder / "model" / "sample.npz") as sample:
        np.testing.assert_allclose(output["data"], sample["onnxruntime"][0], atol=1e-5)
    program = [sys.executable, "ask.py", address]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["label"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("server", ["docker", "kserve"])
def test_the_server_needs_nothing_but_the_bundle(server, copied, tmp_path):
    """As in the image: without TensorFlow, MLflow and Prefect, and with no code of ours but the bundle's."""
    folder = copied(server)
    code = folder / ("server" if server == "kserve" else ".")
    (code / "sitecustomize.py").write_text(BLOCK)
    blocked = [sys.executable, "-c", "import mlflow"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code)}
    assert "is not in the image" in subprocess.run(blocked, env=environment, capture_output=True, text=True).stderr
    where = subprocess.run(
        [sys.executable, "-c", "import tasks.serving; print(tasks.serving.__file__)"],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(code.resolve()), where.stderr
    with running(code, folder / "model", QUICK) as (ports, process):
        import tritonclient.http

        assert asked_as_the_readme_says(folder, ports["REST"]) == [str(label) for label in recorded_labels(folder)]
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{ports['REST']}")
        assert client.is_model_ready("tiny")
        client.close()
    assert process.returncode is not None, "it is gone when the block ends"


TRYING = """
import sys, time
from pathlib import Path
from tasks.bundles.client import running
from tasks.bundles.trial import TrialConfig

folder = Path(sys.argv[1])
with running(folder, folder / "model", TrialConfig(requests=20)) as (_, process):
    print(process.pid, flush=True)
    time.sleep(600)
"""


def test_a_server_does_not_outlive_a_trial_that_was_killed(copied):
    command = [sys.executable, "-c", TRYING, str(copied("docker"))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as trying:
        server = psutil.Process(int(trying.stdout.readline()))
        trying.kill()
    gone, _ = psutil.wait_procs([server], timeout=30)
    for left in {server} - set(gone):
        left.kill()
    assert gone, "it goes on for ever, and has its port"


@pytest.mark.parametrize(
    ("server", "file"),
    [
        ("tfserving", "models/tiny/1/saved_model.pb"),
        ("triton", "cpu/tiny/1/model.onnx"),
        ("docker", "model/model.onnx"),
        ("kserve", "model/model.onnx"),
        ("edge", "model.tflite"),
    ],
)
def test_a_model_that_was_cut_off_is_named(server, file, copied):
    folder = copied(server)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(
        BundleDamaged, match=rf"damaged {re.escape(file)} +recorded \w+, is \w+\n.*deploy the version again"
    ):
        trial(folder, QUICK)


def test_a_file_that_is_missing_or_more_is_named(copied):
    folder = copied("edge")
    (folder / "labels.txt").unlink()
    with pytest.raises(BundleDamaged, match=r"missing labels\.txt +recorded \w+, is nothing"):
        trial(folder, QUICK)
    folder = copied("docker")
    (folder / "tasks" / "more.py").write_text("")
    with pytest.raises(BundleDamaged, match=r"extra   tasks/more\.py +recorded nothing"):
        trial(folder, QUICK)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(BundleDamaged, match=r"damaged manifest\.json +recorded unknown"):
        trial(folder, QUICK)


@pytest.mark.parametrize(
    ("server", "file"),
    [
        ("tfserving", "models/tiny/1/saved_model.pb"),
        ("triton", "cpu/tiny/1/model.onnx"),
        ("edge", "model.tflite"),
    ],
)
def test_a_damaged_model_with_a_manifest_to_match_does_not_run(server, file, copied):
    folder = copied(server)
    (folder / file).write_bytes(b"\0" * 1000)
    copied.seal(folder)
    with pytest.raises(BundleMismatch, match=r"the model in the bundle cannot be run: .*compress again"):
        trial(folder, QUICK)


@pytest.mark.parametrize(
    ("server", "file", "before", "after", "says"),
    [
        (
            "triton",
            "cpu/tiny/config.pbtxt",
            "dims: [8, 8, 1]",
            "dims: [8, 8, 3]",
            r"inputs are .*\(8, 8, 3\).*\(8, 8, 1\)",
        ),
        ("triton", "gpu/tiny/config.pbtxt", 'name: "probabilities"', 'name: "scores"', r"outputs are .*'scores'"),
        ("triton", "gpu/tiny/config.pbtxt", "versions: [1]", "versions: [7]", r"names tiny version \[7\]"),
        ("triton", "cpu/tiny/config.pbtxt", "max_batch_size", "max_batch", r"cannot be parsed: .*max_batch"),
        ("tfserving", "config/models.config", "/models/tiny", "/models/other", r"from /models/other"),
        ("tfserving", "config/models.config", "versions: 1", "versions: 7", r"version 7"),
        ("kserve", "inference-service.yaml", "/tiny/1", "/tiny/7", r"storageUri .*/tiny/7.*end with /tiny/1"),
        ("kserve", "inference-service.yaml", "runtime: slimline", "runtime: other", r"asks for other"),
        ("edge", "metadata.json", "int8", "float32", r"metadata\.json does not fit"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(server, file, before, after, says, copied):
    folder = copied(server)
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after))
    copied.seal(folder)
    with pytest.raises(BundleMismatch, match=rf"(?s){says}"):
        trial(folder, QUICK)


def test_a_port_that_is_taken_is_named(copied):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"trial\.grpc_port: {port}: cannot be listened on .*take 0") as caught:
            trial(copied("docker"), TrialConfig(requests=20, grpc_port=port))
    assert caught.value.exit_code == 2


def test_a_promise_that_is_not_kept_is_named(copied):
    with pytest.raises(TooSlow, match=r"ms for one example by LiteRT, and 1e-06 ms were promised .*max_latency_ms"):
        trial(copied("edge"), TrialConfig(requests=20, max_latency_ms=1e-6))


def test_a_server_that_ends_at_once_says_why(copied):
    folder = copied("docker")
    main = folder / "tasks" / "serving" / "__main__.py"
    main.write_text('raise SystemExit("no licence to serve")\n')
    copied.seal(folder)
    with pytest.raises(ServerFailed, match=r"ended at once \(exit code 1\)\. It said: no licence to serve"):
        trial(folder, QUICK)


def test_a_program_that_fails_says_why(copied):
    folder = copied("edge")
    (folder / "predict.py").write_text("raise RuntimeError('no device')\n")
    copied.seal(folder)
    with pytest.raises(ServerFailed, match=r"predict\.py ended with exit code 1.*no device"):
        trial(folder, QUICK)


@pytest.mark.parametrize("server", ["edge", "docker"])
def test_other_answers_fail(server, copied):
    folder = copied(server)
    place = folder / "model" if server == "docker" else folder
    with np.load(place / "sample.npz") as sample:
        arrays = dict(sample)
    target = BUNDLES[server].TARGET
    arrays[target] = arrays[target].copy()
    arrays[target][3] = arrays[target][3][::-1]
    np.savez_compressed(place / "sample.npz", **arrays)
    if server == "docker":
        copied.seal(place)
    copied.seal(folder)
    # our server may refuse what its own sample tells it, before the client can
    with pytest.raises((SmokeTestFailed, ServerFailed), match=r"1 of 16 examples otherwise|ended at once"):
        trial(folder, QUICK)


def test_what_is_no_number_is_as_far_away_as_can_be():
    recorded = np.ones((2, 3), np.float32)
    assert compare_answers(recorded, recorded + 1e-6, "it") == pytest.approx(1e-6, rel=0.1)
    with pytest.raises(SmokeTestFailed, match=r"1 of 2 examples otherwise .* by up to inf"):
        compare_answers(recorded, np.array([[1, 1, np.nan], [1, 1, 1]], np.float32), "it")
    with pytest.raises(SmokeTestFailed, match="in the shape"):
        compare_answers(recorded, recorded[:1], "it")


def test_the_cluster_s_runtime_is_the_bundle_s(bundles):
    """What deployments/serving has for a whole cluster is what a bundle has for its namespace."""
    ours = yaml.safe_load((ROOT / "deployments" / "serving" / "cluster-serving-runtime.yaml").read_text())
    made = yaml.safe_load((bundles["kserve"] / "serving-runtime.yaml").read_text())
    assert ours["kind"] == "ClusterServingRuntime"
    assert ours["spec"] == made["spec"]
