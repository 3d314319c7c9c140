"""gRPC's own health protocol, asked by its own client: ready, leaving, by a model's name, and with keys."""

import threading
import time

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from serving_process import serving

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
KEY = "0123456789abcdef" * 2


def check(server, service: str = "", **metadata: str) -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        asked = HealthStub(channel).Check(HealthCheckRequest(service=service), 30, metadata=list(metadata.items()))
        return asked.status


def refusal(ask) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        ask()
    return refused.value.code()


def test_it_is_ready_and_so_is_its_model_and_no_other(server):
    assert (check(server), check(server, "tiny")) == (SERVING, SERVING)
    assert refusal(lambda: check(server, "huge")) == grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(server.grpc) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), 30)
        assert refusal(lambda: next(watch)) == grpc.StatusCode.UNIMPLEMENTED


def test_the_servers_own_needs_no_key_and_a_models_does(folder, tmp_path):
    """As over REST; and it says that it is leaving while a client still has a connection."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serving(tmp_path, ["tasks.serving", str(folder), "--key-file", str(keys)]) as server:
        assert check(server) == SERVING
        for wrong in ({}, {"authorization": f"Bearer {KEY[:-1]}"}):
            for service in ("tiny", "huge"):
                assert refusal(lambda: check(server, service, **wrong)) == grpc.StatusCode.UNAUTHENTICATED  # noqa: B023
        assert check(server, "tiny", authorization=f"Bearer {KEY}") == SERVING
        with httpx.Client() as client, grpc.insecure_channel(server.grpc) as channel:
            assert client.get(f"{server.url}/v2/health/ready").status_code == 200  # a connection that is kept
            stub = HealthStub(channel)
            assert stub.Check(HealthCheckRequest()).status == SERVING
            ending = threading.Thread(target=server.end)
            ending.start()
            said, until = SERVING, time.monotonic() + 4
            while said == SERVING and time.monotonic() < until:
                said = stub.Check(HealthCheckRequest(), 5).status
            bearer = [("authorization", f"Bearer {KEY}")]
            assert said == NOT_SERVING
            assert stub.Check(HealthCheckRequest(service="tiny"), 5, metadata=bearer).status == NOT_SERVING
        ending.join(60)
        assert server.process.poll() == 0
