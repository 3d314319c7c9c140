"""What anyone may send to the server: never a crash, never a 500, always a message."""

import json
import os

import grpc
import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_process import serving

FAST, SLOW = 150, 2500  # inputs of each of four kinds
MOST = SLOW if os.environ.get("SLIMLINE_FUZZ") else FAST
RULES = {"deadline": None, "suppress_health_check": list(HealthCheck)}
SENT_AWAY = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", str(folder)]) as running:
        yield running
        assert running.process.poll() is None, "it lives"
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def answered(answer: httpx.Response) -> None:
    """As what it was sent deserves."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.text.strip(), "without a word"
        assert "Traceback" not in answer.text


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
names = st.sampled_from(["image", "input", ""]) | st.text(max_size=5)
sizes = st.sampled_from([0, 1, 2, 8, -1, 2**31, 2**63 - 1, 2**63, 10**30]) | st.integers()
shapes = st.sampled_from([[1, 8, 8, 1], [2, 8, 8, 1]]) | st.lists(sizes, max_size=6)
kinds = st.sampled_from(["FP32", "FP16", "INT8", "UINT64", "BYTES", "BOOL", "fp32", ""]) | st.text(max_size=5)
values = (
    st.sampled_from([[0.5] * 64, ["a"] * 64, [[0.5] * 8] * 8, [1e300] * 64]) | st.lists(leaves, max_size=8) | anything
)


@st.composite
def tensors(draw):
    whole = {"name": draw(names), "shape": draw(shapes), "datatype": draw(kinds), "data": draw(values)}
    more = draw(
        st.sampled_from([{}, {"parameters": {"binary_data_size": draw(sizes)}}, {"parameters": draw(anything)}])
    )
    return {**{key: value for key, value in whole.items() if draw(st.integers(0, 9))}, **more}


requests = st.fixed_dictionaries(
    {},
    optional={"inputs": st.lists(tensors(), max_size=3), "outputs": anything, "id": anything, "parameters": anything},
)


def test_json(client):
    @settings(max_examples=MOST, **RULES)
    @given(requests | anything)
    def ask(body):
        content = json.dumps(body)  # with NaN and infinities, as Python writes them
        headers = {"content-type": "application/json"}
        answered(client.post("/v2/models/tiny/infer", content=content.encode(errors="replace"), headers=headers))

    ask()


def test_binary_tensors(client):
    @settings(max_examples=MOST, **RULES)
    @given(requests, st.binary(max_size=300), st.integers(-5, 5) | st.sampled_from([10**6, 10**30]), st.booleans())
    def ask(body, tail, off, cut):
        head = json.dumps(body).encode(errors="replace")
        content = head + tail
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head) + off),
        }
        answered(
            client.post(
                "/v2/models/tiny/infer", content=content[: len(content) // 2] if cut else content, headers=headers
            )
        )

    ask()


def test_grpc(server):
    """Messages whose fields are anything, and bytes that are no message."""
    import subprocess
    import sys

    # kserve's messages and tritonclient's have the same names, and other tests of this process may have taken either
    program = f"from test_fuzz import ask_grpc; ask_grpc({server.grpc!r}, {MOST})"
    reached = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": reached},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def ask_grpc(address: str, most: int) -> None:
    from tritonclient.grpc import service_pb2

    channel = grpc.insecure_channel(address)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    def ask(content: bytes) -> None:
        code, details = None, ""
        try:
            call(content, timeout=60)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        # what is no message at all is refused by gRPC itself
        assert code is None or (details and (code in SENT_AWAY or "Error parsing message" in details)), (code, details)

    wide = st.integers(-(2**63), 2**63 - 1)

    @settings(max_examples=most, **RULES)
    @given(
        st.sampled_from(["tiny", "x", ""]),
        names,
        kinds,
        st.sampled_from([[1, 8, 8, 1], [2, 8, 8, 1]]) | st.lists(wide, max_size=6),
        st.lists(st.sampled_from([np.zeros(64, np.float32).tobytes(), b""]) | st.binary(max_size=300), max_size=3),
        st.lists(st.floats(width=32), max_size=70),
        st.booleans(),
    )
    def messages(model, name, kind, shape, raw, data, contents):
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=raw)
        tensor = request.inputs.add(name=name, datatype=kind, shape=shape)
        if contents:
            tensor.contents.fp32_contents.extend(data)
        ask(request.SerializeToString())

    @settings(max_examples=most // 5, **RULES)
    @given(st.binary(max_size=200))
    def noise(content):
        ask(content)

    messages()
    noise()
    channel.close()


def test_what_its_own_openapi_allows(server):
    """Every operation that the server tells of, with what its schema allows and with what it does not."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {"/v2/models/{model_name}/infer", "/v2/health/ready"} <= {each.path for each in operations}
    each_most = max(5, MOST // len(operations))
    for operation in operations:

        @settings(max_examples=each_most, **RULES)
        @given(case=operation.as_strategy())
        def ask(case):
            answer = case.call(base_url=server.url, timeout=60)
            assert answer.status_code < 500, (case.path, answer.status_code, answer.text[:300])

        ask()


@pytest.mark.slow
def test_ten_thousand(server, client, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules[__name__], "MOST", SLOW)
    test_json(client)
    test_binary_tensors(client)
    test_grpc(server)
    test_what_its_own_openapi_allows(server)
