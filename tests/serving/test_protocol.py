"""The Open Inference Protocol as others have it: KServe's own classes write what is read, and read what is written."""

import gzip
import json
import re
import subprocess
import sys

import httpx
import numpy as np
import pytest
import tritonclient.http
from serving_process import question

# kserve's messages and tritonclient's have the same names, and other tests of this process may have taken either
CONFORMS = """
import json
import numpy as np
from hypothesis import given, settings, strategies as st
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
from kserve.protocol.infer_type import RequestedOutput
from tasks.serving.protocol import Answer, from_grpc, from_rest, to_grpc, to_rest

TYPES = ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "uint64", "bool")
NAMES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bool": "BOOL"}
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)

@st.composite
def arrays(draw):
    dtype, shape = draw(st.sampled_from(TYPES)), draw(shapes)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.normal(0, 40, shape)
    return (values > 0) if dtype == "bool" else np.abs(values).astype(dtype)

some = st.lists(st.tuples(arrays(), st.booleans()), min_size=1, max_size=3)

@settings(max_examples=150, deadline=None)
@given(some, st.text(max_size=5), st.sampled_from([None, True, False]))
def requests(tensors, name, wish):
    inputs = []
    for number, (values, binary) in enumerate(tensors):
        kind = NAMES.get(str(values.dtype), str(values.dtype).upper())
        inputs.append(InferInput(f"{name}{number}", list(values.shape), kind))
        # kserve writes no FP16 in JSON
        inputs[-1].set_data_from_numpy(values, binary_data=binary or kind == "FP16")
    parameters = None if wish is None else {"binary_data": wish}
    asked = [RequestedOutput("y", parameters)]
    request = InferRequest("m", inputs, request_id="7", parameters={"binary_data_output": True}, request_outputs=asked)
    content, size = request.to_rest()
    body = content if size is not None else json.dumps(content).encode()
    read = from_rest(body, None if size is None else str(size).encode())
    assert (read.id, read.wishes, read.binary) == ("7", {"y": wish}, True)
    of_grpc = InferRequest("m", inputs, request_id="7", request_outputs=asked)
    for each in inputs:
        each.set_data_from_numpy(each.as_numpy(), binary_data=True)
    message = ModelInferRequest.FromString(of_grpc.to_grpc().SerializeToString())
    for told in (read, from_grpc(message)):
        for tensor, (values, _) in zip(told.inputs, tensors, strict=True):
            given_ = tensor.as_numpy()
            assert given_.dtype == values.dtype and tensor.shape == list(values.shape)
            np.testing.assert_array_equal(given_, values)

@settings(max_examples=150, deadline=None)
@given(some)
def responses(tensors):
    outputs = [(f"y{number}", values, binary) for number, (values, binary) in enumerate(tensors)]
    answer = Answer("7", "m", "3", outputs)
    content, size = to_rest(answer)
    assert (size is None) == (not any(binary for *_, binary in outputs))
    if size is None:
        read = InferResponse.from_rest(json.loads(content))
    else:
        read = InferResponse.from_bytes(content, size)
    message = ModelInferResponse.FromString(to_grpc(answer).SerializeToString())
    for told in (read, InferResponse.from_grpc(message)):
        assert (told.id, told.model_name) == ("7", "m")
        for output, (name, values, _) in zip(told.outputs, outputs, strict=True):
            given_ = output.as_numpy()
            assert (output.name, given_.dtype, given_.shape) == (name, values.dtype, values.shape)
            np.testing.assert_array_equal(given_, values)

requests()
responses()
"""


def test_kserve_s_own_classes_write_what_we_read_and_read_what_we_write():
    done = subprocess.run([sys.executable, "-c", CONFORMS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def sample(folder) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "sample.npz") as arrays:
        return arrays["examples"], arrays["onnxruntime"]


@pytest.fixture(scope="module")
def name(server) -> str:
    return httpx.get(f"{server.url}/v2/models/tiny").json()["inputs"][0]["name"]


def binary(x: np.ndarray, name: str, size: int | None = None, tail: bytes = b"", **more: object) -> dict:
    """A request whose tensor is bytes."""
    parameters = {"binary_data_size": x.nbytes if size is None else size}
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32", "parameters": parameters}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return {"content": head + x.tobytes() + tail, "headers": {"inference-header-content-length": str(len(head))}}


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/tiny/infer",
        "/v2/models/tiny/versions/1/infer",
        "/v2/models/tiny/infer%0A",  # which FastAPI takes for the first, and would give to KServe
        "/v2/models/tiny/versions/1/infer%0A",
    ],
)
def test_bytes_and_values_are_answered_alike_under_the_request_s_own_id(server, sample, name, path):
    x, right = sample
    asked = {"json": {**question(x, name), "id": "a request"}}
    for sent in (asked, binary(x, name, id="a request"), binary(x, name, id="a request", outputs=[])):
        answer = httpx.post(f"{server.url}{path}", **sent)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert (told["id"], told["model_name"], told["model_version"]) == ("a request", "tiny", "1")
        (output,) = told["outputs"]
        np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), right, atol=1e-6)
    answer = httpx.post(f"{server.url}{path}", **binary(x, name, parameters={"binary_data_output": True}))
    size = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": right.nbytes}
    given = np.frombuffer(answer.content[size:], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(given, right, atol=1e-6)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_requests_that_tritonclient_packs_are_answered(server, sample, name, packing):
    client = tritonclient.http.InferenceServerClient(server.http)
    tensor = tritonclient.http.InferInput(name, list(sample[0].shape), "FP32")
    tensor.set_data_from_numpy(sample[0])
    answer = client.infer("tiny", [tensor], request_compression_algorithm=packing)
    client.close()
    (output,) = answer.get_response()["outputs"]
    np.testing.assert_allclose(answer.as_numpy(output["name"]), sample[1], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "packing", "status", "message"),
    [
        (b"no gzip", "gzip", 400, "not packed as its content-encoding says"),
        (gzip.compress(bytes(20 << 20)), "gzip", 413, "larger than 16,777,216 bytes"),
        (b"{}", "br", 415, "pack with gzip or deflate, or not at all"),
    ],
)
def test_what_cannot_be_unpacked_is_said(server, content, packing, status, message):
    url = f"{server.url}/v2/models/tiny/infer"
    answer = httpx.post(url, content=content, headers={"content-encoding": packing})
    assert answer.status_code == status
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 255}, "1 bytes stand behind the last tensor"),
        ({"size": 257}, "binary_data_size is 257, and 256 bytes are left"),
        ({"size": -1}, "binary_data_size is -1"),
        ({"size": 2.5}, "binary_data_size is no whole number"),
        ({"tail": b"more"}, "4 bytes stand behind the last tensor"),
        ({"id": 7}, "request.id is no text"),
        ({"outputs": [{"parameters": {}}]}, r"outputs.0.name is missing"),
        ({"outputs": ["y"]}, "outputs.0 is no object"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output is no true or false"),
    ],
)
def test_what_does_not_follow_the_protocol_is_said_by_its_place(server, name, change, message):
    answer = httpx.post(
        f"{server.url}/v2/models/tiny/infer", **binary(np.zeros((1, 8, 8, 1), np.float32), name, **change)
    )
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"]), answer.text


def test_another_version_and_another_model_are_not_found(server, sample, name):
    asked = question(sample[0], name)
    other = httpx.post(f"{server.url}/v2/models/tiny/versions/2/infer", json=asked)
    assert other.status_code == 404
    assert "version 2 of tiny is not served, and version 1 is" in other.json()["error"]
    unknown = httpx.post(f"{server.url}/v2/models/huge/infer", json=asked)
    assert unknown.status_code == 404
    assert "huge does not exist" in unknown.json()["error"]


def test_floats_are_written_so_that_every_reader_reads_the_same(server, sample, name):
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=question(sample[0], name))
    values = np.array(answer.json()["outputs"][0]["data"], np.float64)
    np.testing.assert_array_equal(values, values.astype(np.float32))
