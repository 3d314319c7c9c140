"""The server around a model with two inputs and two outputs: asked by name, refused by name."""

import json
import re

import httpx
import numpy as np
import pytest
import several_ends
import tritonclient.grpc
import tritonclient.http
from serving_process import laid_out, serving
from tritonclient.utils import InferenceServerException

from tasks.contract.named import fields

LIBRARIES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return several_ends.lay_out(tmp_path_factory.mktemp("two") / "version", "onnxruntime")


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    folder = laid_out(made[0].folder, tmp_path_factory.mktemp("served") / "two", 1)
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", str(folder)]) as running:
        yield running


def body(x: np.ndarray, **more) -> dict:
    """A request in JSON, its tensors in another order than the model's."""
    tensors = [
        {"name": name, "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
        for name, values in reversed(fields(x).items())
    ]
    return {"inputs": tensors, **more}


def asked(server, content: dict) -> httpx.Response:
    return httpx.post(f"{server.url}/v2/models/tiny/infer", json=content)


def test_it_tells_all_that_it_takes_and_gives(server):
    about = httpx.get(f"{server.url}/v2/models/tiny").json()
    assert about["inputs"] == [
        {"name": "scene", "datatype": "FP32", "shape": [-1, 6, 6, 1]},
        {"name": "facts", "datatype": "FP32", "shape": [-1, 3]},
    ]
    assert about["outputs"] == [
        {"name": "kind", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "box", "datatype": "FP32", "shape": [-1, 2]},
    ]
    assert about["labels"] == {"kind": ["cat", "dog", "eel"], "box": []}
    page = httpx.get(f"{server.url}/docs").text
    assert "scene: FP32 [-1, 6, 6, 1]; facts: FP32 [-1, 3]" in page
    assert "kind cat, dog, eel; box none" in page


@pytest.mark.parametrize("way", ["grpc", "http"])
@pytest.mark.parametrize("wanted", [None, ("box", "kind"), ("box",)])
@pytest.mark.parametrize("binary", [True, False])
def test_every_client_gets_the_outputs_that_it_asks_for(server, made, way, wanted, binary):
    library, (_, x, y) = LIBRARIES[way], made
    client = library.InferenceServerClient(getattr(server, way))
    assert client.is_model_ready("tiny")
    tensors = []
    for name, values in reversed(fields(x).items()):
        tensors.append(library.InferInput(name, list(values.shape), "FP32"))
        tensors[-1].set_data_from_numpy(values)
    own = {} if way == "grpc" else {"binary_data": binary}
    outputs = wanted and [library.InferRequestedOutput(name, **own) for name in wanted]
    answer = client.infer("tiny", tensors, outputs=outputs)
    response = answer.get_response()
    given = (
        [each["name"] for each in response["outputs"]] if way == "http" else [each.name for each in response.outputs]
    )
    assert given == list(wanted or ("kind", "box"))
    for name in given:
        np.testing.assert_allclose(answer.as_numpy(name), y[name], rtol=1e-5, atol=1e-4)
    assert answer.as_numpy("kind" if "kind" not in given else "other") is None
    client.close()


def test_an_output_s_own_wish_for_bytes_comes_before_the_request_s(server, made):
    wishes = [{"name": "box", "parameters": {"binary_data": False}}, {"name": "kind"}]
    content = body(made[1][:2], outputs=wishes, parameters={"binary_data_output": True})
    answer = asked(server, content)
    size = int(answer.headers["inference-header-content-length"])
    box, kind = json.loads(answer.content[:size])["outputs"]
    np.testing.assert_allclose(np.reshape(box["data"], box["shape"]), made[2]["box"][:2], rtol=1e-5, atol=1e-4)
    assert "data" not in kind
    assert kind["parameters"] == {"binary_data_size": 2 * 3 * 4}
    bytes_of_kind = np.frombuffer(answer.content[size:], np.float32).reshape(2, 3)
    np.testing.assert_allclose(bytes_of_kind, made[2]["kind"][:2], rtol=1e-5, atol=1e-5)


def changed(which: int, **values):
    """A change of one tensor: 0 is facts, 1 is scene."""

    def change(content: dict) -> dict:
        content["inputs"][which].update(values)
        return content

    return change


RIGHT = r"the model takes 2: scene is FP32 with the shape \[n, 6, 6, 1\]; facts is FP32 with the shape \[n, 3\]"
WRONG = {
    "missing": (lambda body: {"inputs": body["inputs"][:1]}, rf"inputs \['facts'\]: {RIGHT}"),
    "none": (lambda body: {"inputs": []}, rf"inputs \[\]: {RIGHT}"),
    "unknown": (changed(0, name="fact"), rf"inputs \['fact', 'scene'\]: {RIGHT}"),
    "twice": (lambda body: {"inputs": [*body["inputs"], body["inputs"][0]]}, rf"'scene', 'facts'\]: {RIGHT}"),
    "shape": (changed(0, shape=[2, 4]), r"facts: shape \[2, 4\]: facts is FP32 with the shape \[n, 3\]"),
    "type": (changed(1, datatype="INT32", data=[1] * 72), "scene: datatype 'INT32': scene is FP32"),
    "fewer": (changed(0, shape=[1, 3], data=[1.0] * 3), "inputs of unlike many examples: scene 2, facts 1"),
    "text": (changed(0, data=["a"] * 6), "facts: data hold what is no number"),
    "infinite": (changed(0, data=[1e39] * 6), "facts: holds NaN or infinity"),
    "output": (lambda body: {**body, "outputs": [{"name": "y"}]}, "outputs: 'y': the model gives 2, kind, box"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_by_name(server, made, case):
    change, message = WRONG[case]
    answer = asked(server, change(body(made[1][:2])))
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"]), answer.text


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_binary_tensors_that_are_wrong_are_refused_by_name(server, made, way):
    library = LIBRARIES[way]
    client = library.InferenceServerClient(getattr(server, way))
    for spoil, message in (
        (lambda facts: np.full_like(facts, np.nan), "facts: holds NaN or infinity"),
        (lambda facts: facts[:1], "unlike many examples: scene 2, facts 1"),
    ):
        sent = fields(made[1][:2])
        tensors = []
        for name, values in (sent | {"facts": spoil(sent["facts"])}).items():
            tensors.append(library.InferInput(name, list(values.shape), "FP32"))
            tensors[-1].set_data_from_numpy(values)
        with pytest.raises(InferenceServerException, match=message):
            client.infer("tiny", tensors)
    client.close()


BATCHED = """
import asyncio, dataclasses, sys, threading
from pathlib import Path
import numpy as np
from tasks.contract.named import fields
from tasks.serving.limits import ServeConfig
from tasks.serving.model import ServedModel
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

async def main():
    slow = dataclasses.replace(served, call=call, seconds=1.0, batch=True)
    model = ServedModel(slow, ServeConfig(max_batch=8))
    def request(number):
        tensors = [
            Tensor(name, "FP32", list(values.shape), None, values.tobytes())
            for name, values in fields(examples[number : number + 1 + number % 2]).items()
        ]
        return asyncio.ensure_future(model.answer(Question("", tensors, {}, binary=True)))
    requests = [request(0)]
    while not begun.is_set():
        await asyncio.sleep(0.01)
    requests += [request(number) for number in range(1, 6)]
    await asyncio.sleep(0.1)
    go.set()
    for number, answer in enumerate(await asyncio.gather(*requests)):
        for name, given, _ in answer.outputs:
            right = recorded[name][number : number + 1 + number % 2]
            np.testing.assert_allclose(given, right, rtol=1e-5, atol=1e-4)
    assert sizes == [1, 8], sizes

asyncio.run(main())
"""


def test_requests_share_a_call(made, tmp_path):
    import subprocess
    import sys

    folder = laid_out(made[0].folder, tmp_path / "two", 1)
    done = subprocess.run([sys.executable, "-c", BATCHED, folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
