"""The server, asked by clients that we did not write, in right ways and in wrong ones."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from postgres import free_port
from registered import versions
from servers import until
from serving_process import laid_out, question, serving
from tritonclient.utils import InferenceServerException

LIBRARIES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    from tasks.store import registry

    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1}, {"seed": 2}):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield home


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory):
    from tasks.store import tracking

    return laid_out(tracking.download("models:/tiny/1"), tmp_path_factory.mktemp("served") / "one", 1)


@pytest.fixture(scope="module")
def sample(home) -> dict[int, dict[str, np.ndarray]]:
    from tasks.store import tracking

    samples = {}
    for number in (1, 2):
        with np.load(tracking.download(f"models:/tiny/{number}") / "sample.npz") as arrays:
            samples[number] = dict(arrays)
    return samples


@pytest.fixture(scope="module")
def names(server) -> tuple[str, str]:
    metadata = httpx.get(f"{server.url}/v2/models/tiny").json()
    return metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_it_answers_as_when_it_was_registered(server, sample, names, way):
    library = LIBRARIES[way]
    client = library.InferenceServerClient(getattr(server, way))
    x, y = sample[1]["examples"], sample[1]["onnxruntime"]
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    for taken in (x, x[:1]):
        tensor = library.InferInput(names[0], list(taken.shape), "FP32")
        tensor.set_data_from_numpy(taken)
        answer = client.infer("tiny", [tensor])
        np.testing.assert_allclose(answer.as_numpy(names[1]), y[: len(taken)], atol=1e-6)
        response = answer.get_response()
        assert (response["model_version"] if way == "http" else response.model_version) == "1"
    client.close()


def test_json_needs_no_id(server, sample, names):
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=question(sample[1]["examples"], names[0]))
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    answers = np.array(output["data"]).reshape(output["shape"])
    np.testing.assert_allclose(answers, sample[1]["onnxruntime"], atol=1e-6)


def test_it_tells_what_it_takes(server):
    metadata = httpx.get(f"{server.url}/v2/models/tiny").json()
    assert [(each["datatype"], each["shape"]) for each in metadata["inputs"]] == [("FP32", [-1, 8, 8, 1])]
    assert [(each["datatype"], each["shape"]) for each in metadata["outputs"]] == [("FP32", [-1, 10])]
    assert httpx.get(f"{server.url}/v2/models/tiny").json()["labels"] == [str(digit) for digit in range(10)]
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'request_predict_seconds_bucket{le="2e-05",model_name="tiny"}' in metrics, "a model may take 0.03 ms"
    page = httpx.get(f"{server.url}/docs").text
    assert f"curl {server.url}/v2/models/tiny/infer" in page
    assert "<td>0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in page
    assert "//" not in page.replace(server.url, ""), "it loads nothing from elsewhere"
    assert httpx.get(f"{server.url}/openapi.json").json()["paths"]["/v2/models/{model_name}/infer"]


def changed(**values):
    return lambda body: {"inputs": [{**body["inputs"][0], **values}]}


WRONG = {
    "shape": (changed(shape=[1, 8, 8]), r"shape \[1, 8, 8\]: \w+ is FP32 with the shape \[n, 8, 8, 1\]"),
    "huge": (changed(shape=[10**15, 8, 8, 1]), "1,000,000,000,000,000 examples: send no more than 1,024 at a time"),
    "unfilled": (changed(shape=[1000, 8, 8, 1]), "its data do not fill the shape"),
    "negative": (changed(shape=[-1, 8, 8, 1]), r"n from 1"),
    "type": (changed(datatype="BYTES"), "datatype 'BYTES'"),
    "type of other numbers": (changed(datatype="FP64"), r"datatype 'FP64': \w+ is FP32"),
    "type of whole numbers": (changed(datatype="UINT8", data=[1] * 64), r"datatype 'UINT8': \w+ is FP32"),
    "digits in text": (changed(data=["1.5"] * 64), "hold what is no number"),
    "truth": (changed(data=[True] * 64), "hold what is no number"),
    "one truth": (changed(data=[[0.5] * 63 + [True]]), "hold what is no number"),
    "text": (changed(data=["a"] * 64), "hold what is no number"),
    "nested": (changed(data=[[[1.0]]] * 63), "do not fill"),
    "name": (changed(name="x"), r"inputs \['x'\]: the model takes one"),
    "none": (lambda body: {"inputs": []}, r"inputs \[\]"),
    "output": (lambda body: {**body, "outputs": [{"name": "y"}]}, "outputs: 'y': the model gives one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(server, sample, names, case):
    import re

    change, message = WRONG[case]
    body = change(question(sample[1]["examples"][:1], names[0]))
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=body)
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"]), answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "-1e39"])
def test_no_number_is_refused(server, sample, names, value):
    body = json.dumps(question(np.full((1, 8, 8, 1), 7.25, np.float32), names[0])).replace("7.25", value)
    sent = {"content": body, "headers": {"content-type": "application/json"}}
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", **sent)
    assert answer.status_code == 400
    assert "NaN or infinity" in answer.text


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_binary_tensors_that_are_wrong_are_refused(server, names, way):
    library = LIBRARIES[way]
    client = library.InferenceServerClient(getattr(server, way))
    x = np.zeros((1, 8, 8, 1), np.float32)
    for spoil, message in (
        (lambda tensor: tensor.set_shape([2, 8, 8, 1]), "do not fill|cannot reshape array of size 64"),
        (lambda tensor: tensor.set_shape([1, 8, 9, 1]), "shape"),
        (lambda tensor: tensor.set_data_from_numpy(x * np.nan), "NaN or infinity"),
    ):
        tensor = library.InferInput(names[0], list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        spoil(tensor)
        with pytest.raises(InferenceServerException, match=message) as refused:
            client.infer("tiny", [tensor])
        assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    client.close()


@pytest.mark.parametrize("way", ["grpc", "http"])
@pytest.mark.parametrize(("datatype", "kind"), [("UINT8", np.uint8), ("FP64", np.float64), ("INT32", np.int32)])
def test_binary_tensors_of_another_type_are_refused(server, names, way, datatype, kind):
    library = LIBRARIES[way]
    client = library.InferenceServerClient(getattr(server, way))
    tensor = library.InferInput(names[0], [1, 8, 8, 1], datatype)
    tensor.set_data_from_numpy(np.zeros((1, 8, 8, 1), kind))
    with pytest.raises(InferenceServerException, match=f"datatype '{datatype}': {names[0]} is FP32") as refused:
        client.infer("tiny", [tensor])
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    client.close()


def test_bodies_that_are_no_requests_are_refused(server):
    url = f"{server.url}/v2/models/tiny/infer"
    for content, headers in (
        (b"", {}),
        (b"{", {"content-type": "application/json"}),
        (b"[" * 100_000, {"content-type": "application/json"}),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, {"content-type": "application/json"}),
        (b"\xff\xfe", {"content-type": "application/octet-stream"}),
        (b"{}", {"content-type": "application/octet-stream", "inference-header-content-length": "-5"}),
        (b"{}", {"content-type": "application/octet-stream", "inference-header-content-length": "many"}),
        (b'{"inputs":3}', {"content-type": "application/octet-stream", "inference-header-content-length": "12"}),
        (b'{"inputs":[3]}', {"content-type": "application/octet-stream", "inference-header-content-length": "14"}),
    ):
        answer = httpx.post(url, content=content, headers=headers)
        assert 400 <= answer.status_code < 500, (content[:20], answer.text)
        assert answer.json(), "a message"
    large = httpx.post(url, content=b"0" * ((16 << 20) + 1))
    assert large.status_code == 413
    assert "16,777,216 bytes" in large.json()["error"]
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_clients_cannot_unload_what_is_served(server):
    assert httpx.post(f"{server.url}/v2/repository/models/tiny/unload").status_code == 400
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    with pytest.raises(InferenceServerException, match="move the alias in the registry"):
        client.unload_model("tiny")
    client.close()
    assert httpx.get(f"{server.url}/v2/models/tiny/ready").status_code == 200


def test_it_listens_on_loopback_alone(server):
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")  # gRPC writes IPv4 addresses so
        for connection in psutil.net_connections("tcp")
        if connection.pid == server.process.pid and connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"] * 2


# Its own process: kserve's messages and tritonclient's have the same names, and no process takes both.


def test_the_line_that_it_prints_can_be_run(server):
    (line,) = [line for line in server.log.read_text().splitlines() if line.startswith("curl ")]
    assert httpx.get(line.removeprefix("curl ")).json()["name"] == "tiny"
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'slimline_served_version{model="tiny",version="1"} 1.0' in metrics
    assert "slimline_waiting_requests 0.0" in metrics
    assert "slimline_refused_requests_total" in metrics
    assert "slimline_request_examples_bucket" in metrics


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def mlflow_server(home: Path) -> Iterator[str]:
    """The store behind MLflow's own server, so that files are copied from it; gives its address."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", url.rpartition(":")[2], "--workers", "1"]
    with subprocess.Popen([*command, "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]) as process:
        try:
            until(lambda: _answers(f"{url}/health"), 120)
            yield url
        finally:
            process.terminate()


def test_a_version_that_cannot_be_served_does_not_take_the_place_of_one_that_can(home, sample, names, tmp_path):
    """And is not downloaded again at every look, nor kept."""
    from tasks.store import registry, tracking

    registry.set_alias("tiny", registry.CHAMPION, 1)
    file = tracking.download("models:/tiny/2") / "model.onnx"
    kept, temporary = file.read_bytes(), tmp_path / "temporary"
    temporary.mkdir()
    command = ["flows.cli", "serve", "models:/tiny@champion", "--watch", "0.2"]
    with (
        mlflow_server(home) as store,
        serving(tmp_path, command, SLIMLINE_HOME=str(home), MLFLOW_TRACKING_URI=store, TMPDIR=str(temporary)) as server,
    ):

        def version() -> str:
            asked = question(sample[1]["examples"], names[0])
            return httpx.post(f"{server.url}/v2/models/tiny/infer", json=asked).json()["model_version"]

        def copies() -> list[Path]:
            return [path for path in temporary.rglob("*") if path.is_file() and path.suffix in (".onnx", ".json")]

        try:
            file.write_bytes(kept + b"\0")
            registry.set_alias("tiny", registry.CHAMPION, 2)
            until(lambda: "still serving version 1" in server.log.read_text(), 60)
            assert "damaged model.onnx" in server.log.read_text()
            until(lambda: not copies(), 5)
            for _ in range(40):  # several looks later
                time.sleep(0.05)
                assert not list(temporary.glob("slimline-serve-*")), "it was downloaded again"
            assert server.log.read_text().count("still serving") == 1
            assert version() == "1"
        finally:
            file.write_bytes(kept)
        registry.set_alias("tiny", registry.CHAMPION, 1)
        time.sleep(1)  # it has to be seen that the alias was elsewhere
        registry.set_alias("tiny", registry.CHAMPION, 2)
        until(lambda: version() == "2", 60)
        assert not copies(), "what is served is in memory"
        registry.set_alias("tiny", registry.CHAMPION, 1)


def test_a_folder_needs_neither_tensorflow_nor_mlflow_nor_prefect(folder):
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'tf_keras', 'mlflow', 'prefect', 'sklearn', 'pyarrow'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "import tasks.serving.server, tasks.serving.__main__\n"
        "from tasks.serving.served import open_folder\n"
        f"print(open_folder(Path({str(folder)!r}), 1).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "tiny", done.stderr


@pytest.mark.parametrize(
    ("moves", "seconds"), [(3, 0), pytest.param(10, float(os.environ.get("LOAD", 600)), marks=pytest.mark.slow)]
)
def test_the_alias_is_followed_without_a_failed_request(home, sample, names, tmp_path, moves, seconds, record_property):
    """Under load, to and fro: every answer is that of the version that it names, and memory stays what it was."""
    from tasks.store import registry

    registry.set_alias("tiny", registry.CHAMPION, 1)
    # the two were made from the same data, so the examples are the same
    np.testing.assert_array_equal(sample[1]["examples"], sample[2]["examples"])
    command = ["flows.cli", "serve", "models:/tiny@champion", "--watch", "0.2"]
    with serving(tmp_path, command, SLIMLINE_HOME=str(home)) as server:
        stop, served = threading.Event(), {1: 0, 2: 0}

        def client(way: str) -> None:
            library = LIBRARIES[way]
            asked = library.InferenceServerClient(getattr(server, way))
            while not stop.is_set():
                x = sample[1]["examples"]
                tensor = library.InferInput(names[0], list(x.shape), "FP32")
                tensor.set_data_from_numpy(x)
                answer = asked.infer("tiny", [tensor])
                response = answer.get_response()
                version = int(response["model_version"] if way == "http" else response.model_version)
                np.testing.assert_allclose(answer.as_numpy(names[1]), sample[version]["onnxruntime"], atol=1e-6)
                served[version] += 1
            asked.close()

        memory = []
        with ThreadPoolExecutor() as pool:
            clients = [pool.submit(client, way) for way in ("grpc", "http", "grpc")]
            for move in range(moves):
                version = 2 - move % 2
                registry.set_alias("tiny", registry.CHAMPION, version)
                before, deadline = served[version], time.monotonic() + 30
                while served[version] == before and time.monotonic() < deadline:
                    time.sleep(0.05)
                    assert all(each.running() for each in clients), "a request failed"
                assert served[version] > before, server.log.read_text()
                time.sleep(seconds / moves)
                memory.append(psutil.Process(server.process.pid).memory_info().rss)
            stop.set()
            for each in clients:
                each.result()
        record_property("requests", sum(served.values()))
        record_property("memory_mib", [size >> 20 for size in memory])
        assert max(memory[2:]) < 1.1 * memory[1], [size >> 20 for size in memory]  # both versions are loaded by then
        assert server.end() == 0


def test_what_was_begun_is_answered_after_sigterm(folder, sample, names, tmp_path):
    with serving(tmp_path, ["tasks.serving", str(folder)]) as server:
        body = json.dumps(question(np.repeat(sample[1]["examples"], 40, axis=0), names[0])).encode()
        half = len(body) // 2

        def slowly():
            yield body[:half]
            server.process.terminate()
            time.sleep(1)
            yield body[half:]

        headers = {"content-type": "application/json", "content-length": str(len(body))}
        answer = httpx.post(f"{server.url}/v2/models/tiny/infer", content=slowly(), headers=headers, timeout=60)
        assert answer.status_code == 200
        assert answer.json()["outputs"][0]["shape"] == [640, 10]
        assert server.process.wait(60) == 0
