"""What it costs to be asked over the network: the same model, in process and behind servers, on one machine.

- in process: ONNX Runtime alone, as the evidence measures it
- slimline:   `slimline serve` over gRPC, over REST with binary tensors, and over REST with JSON
- mlflow:     `mlflow models serve` of the same version, with JSON, which is all that it takes

Requests are made once and sent as bytes, and answers are read and not parsed, so that the client costs every way as
little; the first answer of each way is compared with the recorded one. Ways are measured in turn, each round anew, with
one connection and with eight, a thread each. All on loopback.

Writes a table to `benchmarks/results/serving.md` and the raw figures beside it as JSON.

    python benchmarks/serving.py models:/digits@champion [--rounds 5] [--seconds 2]
"""

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.state_folder import home
from tasks.formats import FORMATS
from tasks.measuring.machine import describe_machine, load_average
from tasks.store import tracking
from tasks.versions.recorded_answers import compare_answers

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CONNECTIONS = (1, 8)
WARM = 50  # requests of each connection that are not counted
Ask = Callable[[], bytes]


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def server(command: list[str], ready: str, log: Path) -> Iterator[int]:
    """A server while the block lasts, from when it answers at `ready`; its process id."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking.tracking_uri(), "PATH": programs}
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(ready, timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        sys.exit(f"{' '.join(command)} does not answer:\n{log.read_text()[-2000:]}")
                    time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


def over_http(port: int, path: str, body: bytes, headers: dict[str, str]) -> Callable[[], Ask]:
    """A maker of connections that stay open, each with the one request to send."""

    def connect() -> Ask:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> bytes:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {content[:200]!r}")
            return content

        return ask

    return connect


def over_grpc(port: int, body: bytes) -> Callable[[], Ask]:
    """A maker of channels, each with the one request to send as bytes."""
    import grpc

    def connect() -> Ask:
        options = [("grpc.use_local_subchannel_pool", 1)]  # else channels share one connection
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return lambda: call(body, timeout=60)

    return connect


def ways(version: dict[str, Any], ports: dict[str, int], call: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Each way's maker of connections, and how its answer is read."""
    import tritonclient.grpc
    import tritonclient.http

    x, name, output, model = version["x"], version["input"], version["output"], version["name"]
    request = tritonclient.grpc.service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name=name, datatype="FP32", shape=x.shape)
    rest = tritonclient.http.InferInput(name, list(x.shape), "FP32")
    rest.set_data_from_numpy(x, binary_data=True)
    requested = tritonclient.http.InferRequestedOutput(output, binary_data=True)
    binary, length = tritonclient.http.InferenceServerClient.generate_request_body([rest], outputs=[requested])
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    asked = json.dumps({"id": "1", "inputs": [tensor]}).encode()
    as_json = {"content-type": "application/json"}
    as_bytes = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
    path = f"/v2/models/{model}/infer"

    def from_grpc(content: bytes) -> np.ndarray:
        message = tritonclient.grpc.service_pb2.ModelInferResponse.FromString(content)
        return np.frombuffer(message.raw_output_contents[0], np.float32)

    return {
        "in process": (lambda: lambda: call(x).tobytes(), lambda content: np.frombuffer(content, np.float32)),
        "slimline, gRPC": (over_grpc(ports["grpc"], request.SerializeToString()), from_grpc),
        "slimline, REST, binary": (
            over_http(ports["rest"], path, bytes(binary), as_bytes),
            lambda content: np.frombuffer(content[-4 * version["y"].size :], np.float32),
        ),
        "slimline, REST, JSON": (
            over_http(ports["rest"], path, asked, as_json),
            lambda content: np.array(json.loads(content)["outputs"][0]["data"], np.float32),
        ),
        "mlflow, JSON": (
            over_http(ports["mlflow"], "/invocations", json.dumps({"inputs": x.tolist()}).encode(), as_json),
            lambda content: np.array(next(iter(json.loads(content)["predictions"].values())), np.float32).ravel(),
        ),
    }


def load(connect: Callable[[], Ask], connections: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each request, and requests a second, of so many connections that each ask as fast as they can."""
    asks = [connect() for _ in range(connections)]
    times: list[list[float]] = [[] for _ in asks]
    begin = threading.Barrier(connections + 1)

    def work(ask: Ask, into: list[float]) -> None:
        for _ in range(WARM):
            ask()
        begin.wait()
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            ask()
            into.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(asks, times, strict=True)]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    seconds_each = [each for one in times for each in one]
    return seconds_each, len(seconds_each) / took


def measure(uri: str, rounds: int, seconds: float) -> dict[str, Any]:
    """All ways in turn; figures by connections and way."""
    folder = tracking.download(uri)
    with np.load(folder / "sample.npz") as sample:
        x, y = sample["examples"][:1], sample["onnxruntime"][:1]
    call = FORMATS["onnxruntime"].load(folder, threads=1)
    rest, rpc, flow = free_ports(3)
    begun = load_average()
    figures: dict[int, dict[str, list[dict[str, float]]]] = {count: {} for count in CONNECTIONS}
    with tempfile.TemporaryDirectory(prefix="slimline-bench-") as logs:
        ours = [sys.executable, "-m", "flows.cli", "serve", uri, "--http-port", str(rest), "--grpc-port", str(rpc)]
        theirs = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
        theirs += ["--port", str(flow), "--host", "127.0.0.1"]
        with (
            server(ours, f"http://127.0.0.1:{rest}/v2/health/ready", Path(logs) / "slimline"),
            server(theirs, f"http://127.0.0.1:{flow}/ping", Path(logs) / "mlflow"),
        ):
            (name,) = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/models").read())["models"]
            metadata = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/models/{name}").read())
            version = {"x": x, "y": y, "name": name}
            version |= {"input": metadata["inputs"][0]["name"], "output": metadata["outputs"][0]["name"]}
            compared = ways(version, {"rest": rest, "grpc": rpc, "mlflow": flow}, call)
            for way, (connect, read) in compared.items():
                compare_answers(y, read(connect()()).reshape(y.shape), way)
            for number in range(rounds):
                for count in CONNECTIONS:
                    for way, (connect, _) in compared.items():
                        times, rate = load(connect, count, seconds)
                        p50, p99 = (1000 * float(value) for value in np.quantile(times, [0.5, 0.99]))
                        figures[count].setdefault(way, []).append({"p50_ms": p50, "p99_ms": p99, "rate": rate})
                        print(
                            f"{number + 1}/{rounds} {count} {way}: p50 {p50:.3f} ms, {rate:,.0f} a second", flush=True
                        )
    machine = describe_machine(begun).model_dump(mode="json")
    return {"uri": uri, "rounds": rounds, "seconds": seconds, "machine": machine, "figures": figures}


def render(results: dict[str, Any]) -> str:
    """A table: the median of the rounds, with the lowest and the highest."""
    machine = results["machine"]
    sets = ", ".join(machine["instruction_sets"][-6:])
    lines = [
        "# What it costs to be asked over the network",
        "",
        f"`make bench-serving` of `{results['uri']}`: {results['rounds']} rounds of {results['seconds']:g} s a way, in "
        f"turn, on {machine['usable_cores']} cores of {machine['processor']} with {sets} "
        f"and a load of {machine['load_before']} before, "
        f"{platform.system()}, Python {machine['python']}; client and server on the same cores. Median of the rounds "
        "(lowest to highest).",
    ]
    for count, ways_of in results["figures"].items():
        theirs = ways_of["mlflow, JSON"]
        lines += [
            "",
            f"## {count} connection{'s' if count > 1 else ''}",
            "",
            "| way | p50, ms | p99, ms | requests a second | p50 over mlflow's | rate over mlflow's |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for way, each in ways_of.items():
            cells = [spread([one[name] for one in each], form) for name, form in COLUMNS.items()]
            cells += [
                spread([a[name] / b[name] for a, b in zip(each, theirs, strict=True)], ".2f")
                for name in ("p50_ms", "rate")
            ]
            lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COLUMNS = {"p50_ms": ".3f", "p99_ms": ".3f", "rate": ",.0f"}


def spread(values: list[float], form: str) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Measure, and write it."""
    grammar = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    grammar.add_argument("uri", nargs="?", default="models:/digits@champion")
    grammar.add_argument("--rounds", type=int, default=5)
    grammar.add_argument("--seconds", type=float, default=2)
    options = grammar.parse_args()
    print(f"state folder: {home()}")
    results = measure(options.uri, options.rounds, options.seconds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serving.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "serving.md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    main()
