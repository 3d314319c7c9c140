"""What the server takes on and what it refuses: addresses, files, sizes, and how many ask at once."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from postgres import free_port
from servers import until
from serving_process import question, serving
from tritonclient.utils import InferenceServerException

LIBRARIES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


@pytest.fixture(scope="module")
def name(server) -> str:
    return httpx.get(f"{server.url}/v2/models/tiny").json()["inputs"][0]["name"]


SLOW_MODEL = """
import asyncio, dataclasses, sys, threading, time
from pathlib import Path
import numpy as np
from tasks.serving.limits import ServeConfig
from tasks.serving.model import ServedModel, TooBusy
from tasks.serving.protocol import Question, Tensor
from tasks.serving.served import open_folder

folder = Path(sys.argv[1])
served = open_folder(folder, 1)
with np.load(folder / "sample.npz") as sample:
    examples, recorded = sample["examples"], sample["onnxruntime"]
begun, go, sizes = threading.Event(), threading.Event(), []

def call(x):  # the model itself, which waits where a large one would compute
    sizes.append(len(x))
    begun.set()
    go.wait(30)
    return served.call(x)

def question(x):
    tensor = Tensor(served.inputs[0].name, "FP32", list(x.shape), None, x.tobytes())
    return Question("", [tensor], {}, binary=True)

async def main():
    for batch, expected in ((True, [1, 4, 3]), (False, [1] * 8)):
        begun.clear(), go.clear(), sizes.clear()
        slow = dataclasses.replace(served, call=call, seconds=1.0, batch=batch)
        model = ServedModel(slow, ServeConfig(max_batch=4, max_waiting=7))
        def request(number):
            return asyncio.ensure_future(model.answer(question(examples[number : number + 1])))
        first = request(0)
        while not begun.is_set():
            await asyncio.sleep(0.01)
        others = [request(number) for number in range(1, 8)]
        await asyncio.sleep(0.1)
        try:
            await request(8)
            raise SystemExit("the eighth that waits was not sent away")
        except TooBusy as error:
            assert "7 requests are waiting" in error.reason
        others[2].cancel()  # its client is gone: the others are answered all the same
        go.set()
        answers = await asyncio.gather(first, *others, return_exceptions=True)
        assert sizes == expected, sizes
        for number, answer in enumerate(answers):
            if number != 3:
                np.testing.assert_allclose(answer.outputs[0][1][0], recorded[number], atol=1e-6)

    quick = dataclasses.replace(served, call=call, seconds=1e-4)
    model = ServedModel(quick, ServeConfig())
    begun.clear(), go.clear()
    large = asyncio.ensure_future(model.answer(question(np.resize(examples, (100, 8, 8, 1)))))
    while not begun.is_set():
        await asyncio.sleep(0.01)  # whoever looks after the server is answered here, while the large one is computed
    assert not large.done()
    go.set()
    assert (await large).outputs[0][1].shape == (100, 10)

asyncio.run(main())
"""


LIMIT = """
import asyncio
from tasks.serving.admission import Limit, Memory
from tasks.serving.limits import ServeConfig

async def main():
    go, answers = asyncio.Event(), []

    async def inner(scope, receive, send):
        if scope["method"] == "POST":
            await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        answers.append(message)

    limit = Limit(inner, ServeConfig(max_waiting=2), Memory(1 << 20))
    def ask(method):
        return limit({"type": "http", "method": method, "headers": []}, None, send)

    two = [asyncio.ensure_future(ask("POST")) for _ in range(2)]
    await asyncio.sleep(0)
    await ask("POST")
    assert answers[0]["status"] == 503 and b"2 requests are under way already" in answers[1]["body"], answers
    await ask("GET")
    assert answers[2]["status"] == 200, "health and metrics are always answered"
    go.set()
    await asyncio.gather(*two)
    await ask("POST")
    assert [each["status"] for each in answers[3:]] == [200] * 3

asyncio.run(main())
"""


def test_no_more_requests_are_taken_on_than_may_be():
    done = subprocess.run([sys.executable, "-c", LIMIT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_connections_that_ask_nothing_count_for_nothing(server, name):
    with ExitStack() as idle:
        host, _, port = server.http.rpartition(":")
        for _ in range(300):
            idle.enter_context(socket.create_connection((host, int(port))))
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        asked = question(np.zeros((2, 8, 8, 1), np.float32), name)
        assert httpx.post(f"{server.url}/v2/models/tiny/infer", json=asked).status_code == 200


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_who_sends_too_many_examples_reads_how_many_may_come(server, name, way):
    library = LIBRARIES[way]
    client = library.InferenceServerClient(getattr(server, way))
    tensor = library.InferInput(name, [1025, 8, 8, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1025, 8, 8, 1), np.float32))
    with pytest.raises(InferenceServerException, match="1,025 examples: send no more than 1,024 at a time"):
        client.infer("tiny", [tensor])
    client.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--http-port", "70000"], "--http-port: 70000: Input should be less than or equal to 65535"),
        (["--threads", "0"], "--threads: 0: Input should be greater than or equal to 1"),
        (["--http-port", "8099", "--grpc-port", "8099"], "--grpc-port: 8099: is the REST port already: name another"),
        (["--host", "no.such.host.invalid"], "--host: 'no.such.host.invalid': no address that can be listened on"),
        (["--host", "192.0.2.7"], "--host: '192.0.2.7': no address of this machine"),
    ],
)
def test_what_cannot_be_listened_on_is_named(folder, options, message):
    command = [sys.executable, "-m", "tasks.serving", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["0", "nan", "-1"])
def test_how_often_an_alias_is_looked_at_is_bounded(seconds):
    command = [sys.executable, "-m", "flows.cli", "serve", "models:/tiny@champion", f"--watch={seconds}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"--watch: {float(seconds)}: Input should be" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_an_address_of_ipv6_too(folder, tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    log = tmp_path / "log"
    http, grpc = free_port(), free_port()
    command = [sys.executable, "-m", "tasks.serving", str(folder), "--host", "::1"]
    command += ["--http-port", str(http), "--grpc-port", str(grpc)]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: "curl" in log.read_text(), 60)
            assert httpx.get(f"http://[::1]:{http}/v2/health/ready").status_code == 200
            client = tritonclient.grpc.InferenceServerClient(f"[::1]:{grpc}")
            assert client.is_server_ready()
            client.close()
        finally:
            process.kill()


def test_a_slow_model_s_requests_share_calls_and_too_many_are_sent_away(folder):
    command = [sys.executable, "-c", SLOW_MODEL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_damaged_folder_is_not_served(folder, tmp_path):

    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes() + b"\0")
    command = [sys.executable, "-m", "tasks.serving", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "damaged model.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named(server, folder):
    taken = server.http.rpartition(":")[2]
    command = [sys.executable, "-m", "tasks.serving", str(folder), "--http-port", taken]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"--http-port: {taken}: cannot be listened on at 127.0.0.1" in done.stderr


def test_clients_that_keep_a_connection_are_told_before_it_is_closed(folder, tmp_path):
    """No request is reset: the answer before says that the connection closes, and probes hear that it is not ready."""
    import http.client

    with serving(tmp_path, ["tasks.serving", str(folder)]) as server:
        host, port = server.http.split(":")
        connections = [http.client.HTTPConnection(host, int(port), timeout=10) for _ in range(4)]

        def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status, (answer.getheader("connection") or "").lower()

        for connection in connections:
            assert ask(connection, "/v2/models/tiny") == (200, "")
        server.process.terminate()
        time.sleep(0.5)
        probe, *others = connections
        assert ask(probe, "/v2/health/ready") == (503, "close")
        for connection in others:
            assert ask(connection, "/v2/models/tiny") == (200, "close")
        assert server.process.wait(60) == 0
