"""Several models, and versions of one, in one process: each is asked by its name, or by its version too."""

import subprocess
import sys

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from registered import version_folder
from serving_process import laid_out, question, serving
from tritonclient.utils import InferenceServerException

NAMES = {("tiny", 1): 1, ("tiny", 2): 2, ("other", 7): 2}  # by which of the two models each is


@pytest.fixture(scope="module")
def made(tmp_path_factory, prefect_server, empty_store):
    return {seed: version_folder(tmp_path_factory, empty_store, {"seed": seed}) for seed in (1, 2)}


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    place = tmp_path_factory.mktemp("served")
    folders = [laid_out(made[seed], place / f"{name}-{number}", number, name) for (name, number), seed in NAMES.items()]
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", *map(str, folders)]) as running:
        yield running


@pytest.fixture(scope="module")
def samples(made) -> dict[int, dict[str, np.ndarray]]:
    found = {}
    for seed, folder in made.items():
        with np.load(folder / "sample.npz") as arrays:
            found[seed] = dict(arrays)
    assert not np.allclose(found[1]["onnxruntime"], found[2]["onnxruntime"], atol=1e-3), "else it says nothing"
    return found


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("tiny", ("tiny", 1)),
        ("tiny/versions/1", ("tiny", 1)),
        ("tiny/versions/2", ("tiny", 2)),
        ("other", ("other", 7)),
        ("other/versions/7", ("other", 7)),
    ],
)
def test_who_is_asked_answers(server, samples, path, key):
    url, sample = f"{server.url}/v2/models/{path}", samples[NAMES[key]]
    about = httpx.get(url).json()
    assert (about["name"], about["labels"]) == (key[0], [str(digit) for digit in range(10)])
    assert about["versions"] == (["1", "2"] if path == "tiny" else [str(key[1])])
    assert httpx.get(f"{url}/ready").json() == {"name": key[0], "ready": True}
    answer = httpx.post(f"{url}/infer", json=question(sample["examples"], about["inputs"][0]["name"])).json()
    assert (answer["model_name"], answer["model_version"]) == (key[0], str(key[1]))
    (output,) = answer["outputs"]
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), sample["onnxruntime"], atol=1e-6)


def test_over_grpc_by_version_too(server, samples):
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    name = client.get_model_metadata("other").inputs[0].name
    for (model, number), seed in NAMES.items():
        assert client.is_model_ready(model, str(number))
        assert client.get_model_metadata(model, str(number)).versions == [str(number)]
        x = samples[seed]["examples"]
        tensor = tritonclient.grpc.InferInput(name, list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answer = client.infer(model, [tensor], model_version=str(number))
        (output,) = answer.get_response().outputs
        np.testing.assert_allclose(answer.as_numpy(output.name), samples[seed]["onnxruntime"], atol=1e-6)
    for ask in (
        lambda: client.infer("tiny", [tensor], model_version="3"),
        lambda: client.is_model_ready("tiny", "3"),
        lambda: client.get_model_metadata("tiny", "3"),
    ):
        with pytest.raises(
            InferenceServerException, match="version 3 of tiny is not served, and version 1, 2 is"
        ) as no:
            ask()
        assert no.value.status() == "StatusCode.NOT_FOUND"
    client.close()


def test_what_is_not_served_is_not_found(server):
    for path, words in {
        "tiny/versions/3": "version 3 of tiny is not served, and version 1, 2 is",
        "tiny/versions/3/ready": "version 3 of tiny is not served",
        "tiny/ready?model_version=3": "version 3 of tiny is not served",
        "huge": "huge does not exist",
    }.items():
        answer = httpx.get(f"{server.url}/v2/models/{path}")
        assert answer.status_code == 404
        assert words in answer.json()["error"]


def test_all_are_told_of(server):
    assert sorted(httpx.get(f"{server.url}/v2/models").json()["models"]) == ["other", "tiny"]
    page = httpx.get(f"{server.url}/docs").text
    for path in ("tiny/versions/1", "tiny/versions/2", "other"):
        assert f"curl {server.url}/v2/models/{path}/infer" in page
    metrics = httpx.get(f"{server.url}/metrics").text
    for model, version in NAMES:
        assert f'slimline_served_version{{model="{model}",version="{version}"}} 1.0' in metrics
    assert server.log.read_text().count("curl http://") == 3


def test_an_address_needs_the_command(tmp_path):
    command = [sys.executable, "-m", "tasks.serving", "models:/tiny@champion"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "is no folder; `slimline deploy` lays one out" in done.stderr
