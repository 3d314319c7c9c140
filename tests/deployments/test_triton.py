"""Triton's own server on the repository that a bundle has for processors: names, types, batching, warm-up, labels.

`make test-triton` brings the server. No package has its onnxruntime backend: triton/model.py stands in for it in the
python backend. What is held here is all of `config.pbtxt` but the word `onnxruntime`, and not that backend's kernels.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from postgres import free_port
from registered import EVERY_TARGET, version_folder
from servers import until

from tasks.bundle import bundle
from tasks.bundles.contents import BundleConfig, Contents
from tasks.versions.recorded_answers import compare_answers
from tasks.versions.version import open_version

MODEL = Path(__file__).parent / "triton" / "model.py"
PACKAGES = next(
    Path(os.environ.get("TRITON", "nowhere")).absolute().glob("lib/python3.*/site-packages"), Path("nowhere")
)
CONFIG = BundleConfig(max_batch=16, batch_delay_us=250, instances=3)

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not PACKAGES.is_dir(), reason="Triton's server is not installed (make test-triton)"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory, prefect_server, empty_store) -> Path:
    """`cpu/` of a bundle, with the other backend; the bundle's sample lies beside it."""
    version = open_version("models:/tiny/1", version_folder(tmp_path_factory, empty_store, EVERY_TARGET))
    made = tmp_path_factory.mktemp("triton")
    bundle(made, "triton", Contents("tiny", 1, version, CONFIG))
    shutil.copy(version.folder / "sample.npz", made)
    config = made / "cpu" / "tiny" / "config.pbtxt"
    text = config.read_text()
    assert text.count('backend: "onnxruntime"') == 1
    config.write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
    shutil.copy(MODEL, made / "cpu" / "tiny" / "1")
    return made / "cpu"


@contextmanager
def triton(repository: Path, log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """A server on loopback that takes a configuration as it stands; gives its process, REST's port and gRPC's."""
    server = PACKAGES / "pytriton" / "tritonserver"
    http, grpc = free_port(), free_port()
    command = [server / "bin" / "tritonserver", f"--model-repository={repository}"]
    command += [f"--backend-directory={server / 'backends'}", "--disable-auto-complete-config", "--allow-metrics=false"]
    command += ["--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}"]
    libraries = {"LD_LIBRARY_PATH": str(PACKAGES / "nvidia_pytriton.libs"), "PACKAGES": str(PACKAGES)}
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env={**os.environ, **libraries}, stdout=out, stderr=out) as process,
    ):
        yield process, http, grpc
        process.terminate()


@pytest.fixture(scope="module")
def asked(repository, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """Both of Triton's own clients, of a server that is ready; what it had logged by then; the clients' module each."""
    import tritonclient.grpc
    import tritonclient.http

    log = tmp_path_factory.mktemp("log") / "triton.log"
    with triton(repository, log) as (process, http, grpc):
        rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{http}")

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return rest.is_server_ready()
            except OSError:
                return False

        until(ready, within=300)
        over_grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{grpc}")
        yield {"log": log.read_text(), "http": (tritonclient.http, rest), "grpc": (tritonclient.grpc, over_grpc)}


@pytest.fixture(scope="module")
def sample(repository) -> dict[str, np.ndarray]:
    """Recorded test examples `(n, 8, 8, 1)`, and the ONNX file's answers to them."""
    return dict(np.load(repository.parent / "sample.npz"))


def answers(asked, way: str, examples: np.ndarray, **wanted: Any) -> np.ndarray:
    """What Triton answers to examples, over REST or gRPC."""
    library, client = asked[way]
    kind = {"float32": "FP32", "float64": "FP64"}[examples.dtype.name]
    given = library.InferInput("input", list(examples.shape), kind)
    given.set_data_from_numpy(examples)
    return client.infer("tiny", [given], outputs=[library.InferRequestedOutput("probabilities", **wanted)]).as_numpy(
        "probabilities"
    )


def test_the_server_has_read_the_configuration_as_it_was_meant(asked):
    _, client = asked["http"]
    metadata, config = client.get_model_metadata("tiny"), client.get_model_config("tiny")
    assert client.get_server_metadata()["version"].startswith("2.")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert config["max_batch_size"] == 16
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 250
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1600
    ((count, kind),) = [(group["count"], group["kind"]) for group in config["instance_group"]]
    assert (count, kind) == (3, "KIND_CPU")


def test_every_instance_was_warmed_up_before_the_server_was_ready(asked):
    assert asked["log"].count('"asked for 1"') == 3


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_it_answers_as_recorded(way, asked, sample):
    examples = sample["examples"][:16]
    together = answers(asked, way, examples)
    compare_answers(sample["onnxruntime"][:16], together, "Triton")
    np.testing.assert_array_equal(np.concatenate([answers(asked, way, each[None]) for each in examples]), together)


def test_calls_that_come_together_are_one_batch_at_most_as_large_as_allowed(asked, sample):
    library, client = asked["grpc"]
    given = library.InferInput("input", [1, 8, 8, 1], "FP32")
    given.set_data_from_numpy(sample["examples"][:1])
    waiting = []
    for _ in range(200):
        client.async_infer("tiny", [given], callback=lambda result, error: waiting.append((result, error)))
    until(lambda: len(waiting) == 200, within=300)
    assert not [error for _, error in waiting if error]
    (about,) = client.get_inference_statistics("tiny", as_json=True)["model_stats"]
    sizes = [int(each["batch_size"]) for each in about["batch_stats"]]
    assert max(sizes) <= 16
    assert int(about["execution_count"]) < int(about["inference_count"]), "no two calls ever shared a batch"


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (np.zeros((17, 8, 8, 1), np.float32), "must be <= 16"),
        (np.zeros((1, 7, 8, 1), np.float32), r"Expected \[-1,8,8,1\], got \[1,7,8,1\]"),
        (np.zeros((1, 8, 8, 1), np.float64), "'FP64', but model 'tiny' expects 'FP32'"),
    ],
)
def test_what_does_not_fit_is_refused(examples, message, asked):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=message):
        answers(asked, "grpc", examples)


def test_classes_are_called_by_their_labels(asked, sample):
    ((best, second),) = answers(asked, "grpc", sample["examples"][:1], class_count=2)
    value, index, label = best.decode().split(":")
    assert int(index) == sample["onnxruntime"][0].argmax()
    assert label == index  # the digits are called as their place is
    assert float(value) >= float(second.decode().split(":")[0])


def test_a_warm_up_of_another_shape_stops_the_start(repository, tmp_path):
    """Which is what the others stand on: Triton looks at what it is given."""
    copy = Path(shutil.copytree(repository, tmp_path / "cpu"))
    example = copy / "tiny" / "warmup" / "input"
    example.write_bytes(example.read_bytes()[:-4])
    with triton(copy, tmp_path / "log") as (process, _, _):
        assert process.wait(300) != 0
    assert "warmup" in (tmp_path / "log").read_text()
