"""What it costs to be asked over the network: the same model, in process and behind servers, on one machine.

- in process: ONNX Runtime alone, as the evidence measures it
- floor:      the same libraries (uvicorn, gRPC) with a constant for an answer: what client, kernel and they take
- slimline:   `slimline serve` over gRPC, over REST with binary tensors, and over REST with JSON
- mlflow:     `mlflow models serve` of the same version, with JSON, which is all that it takes

Requests are made once and sent as bytes, and answers are read and not parsed, so that the client costs every way as
little: over HTTP it is wrk, in C, where that is installed, and else Python's; the first answer of each way is compared
with the recorded one. Ways are measured in turn, each round anew, with one connection and with eight. All on loopback.

Writes a table to `benchmarks/results/serving.md` and the raw figures beside it as JSON.

    python benchmarks/serving.py models:/digits@champion [--rounds 5] [--seconds 2]
"""

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

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
MLFLOW = "mlflow, JSON"
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # of wrk's, in milliseconds
FLOOR = """
import asyncio, sys, uvicorn, grpc
ANSWER = bytes(int(sys.argv[3]))
HEADERS = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(ANSWER)).encode())]

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})

async def answer(message, context):
    return ANSWER

async def main():
    rpc = grpc.aio.server()
    rpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(answer)})])
    rpc.add_insecure_port("127.0.0.1:" + sys.argv[2])
    await rpc.start()
    await uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[1]), log_level="error", lifespan="off")).serve()

with asyncio.Runner(loop_factory=uvicorn.Config(app).get_loop_factory()) as runner:
    runner.run(main())
"""


class Way(NamedTuple):
    """A way to ask. connect: a maker of connections; read: the values of an answer. url, headers, body: over HTTP."""

    connect: Callable[[], Ask]
    read: Callable[[bytes], np.ndarray] | None = None
    url: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""


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


def over_http(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Callable[[], Ask]:
    """A maker of connections that stay open, each with the one request to send."""

    def connect() -> Ask:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> bytes:
            connection.request("POST", path, body, dict(headers))
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


def ways(version: dict[str, Any], ports: dict[str, int], call: Callable[[np.ndarray], np.ndarray]) -> dict[str, Way]:
    """Each way to ask about the first recorded example."""
    import tritonclient.grpc
    import tritonclient.http

    x, name, output, model = version["x"], version["input"], version["output"], version["name"]
    request = tritonclient.grpc.service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name=name, datatype="FP32", shape=x.shape)
    message = request.SerializeToString()
    rest = tritonclient.http.InferInput(name, list(x.shape), "FP32")
    rest.set_data_from_numpy(x, binary_data=True)
    requested = tritonclient.http.InferRequestedOutput(output, binary_data=True)
    made, length = tritonclient.http.InferenceServerClient.generate_request_body([rest], outputs=[requested])
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    asked = json.dumps({"id": "1", "inputs": [tensor]}).encode()
    as_json = {"content-type": "application/json"}
    as_bytes = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
    path = f"/v2/models/{model}/infer"

    def http_way(port: int, path: str, body: bytes, headers: Mapping[str, str], read: Any = None) -> Way:
        return Way(over_http(port, path, body, headers), read, f"http://127.0.0.1:{port}{path}", headers, body)

    def from_grpc(content: bytes) -> np.ndarray:
        answer = tritonclient.grpc.service_pb2.ModelInferResponse.FromString(content)
        return np.frombuffer(answer.raw_output_contents[0], np.float32)

    def from_bytes(content: bytes) -> np.ndarray:
        return np.frombuffer(content[-4 * version["y"].size :], np.float32)

    def from_json(content: bytes) -> np.ndarray:
        return np.array(json.loads(content)["outputs"][0]["data"], np.float32)

    def from_mlflow(content: bytes) -> np.ndarray:
        return np.array(next(iter(json.loads(content)["predictions"].values())), np.float32).ravel()

    theirs = json.dumps({"inputs": x.tolist()}).encode()
    return {
        "in process": Way(lambda: lambda: call(x).tobytes(), lambda content: np.frombuffer(content, np.float32)),
        "floor, gRPC": Way(over_grpc(ports["floor gRPC"], message)),
        "slimline, gRPC": Way(over_grpc(ports["grpc"], message), from_grpc),
        "floor, REST": http_way(ports["floor REST"], path, bytes(made), as_bytes),
        "slimline, REST, binary": http_way(ports["rest"], path, bytes(made), as_bytes, from_bytes),
        "slimline, REST, JSON": http_way(ports["rest"], path, asked, as_json, from_json),
        MLFLOW: http_way(ports["mlflow"], "/invocations", theirs, as_json, from_mlflow),
    }


def asked(way: Way, connections: int, seconds: float) -> dict[str, float]:
    """What a way's requests take of so many connections that each ask as fast as they can."""
    if way.url and shutil.which("wrk"):
        return by_wrk(way, connections, seconds)
    times, rate = load(way.connect, connections, seconds)
    p50, p99 = (1000 * float(value) for value in np.quantile(times, [0.5, 0.99]))
    return {"p50_ms": p50, "p99_ms": p99, "rate": rate}


def by_wrk(way: Way, connections: int, seconds: float) -> dict[str, float]:
    """The same by wrk, which takes whole seconds, and warms up nothing: a short run goes before."""
    with tempfile.TemporaryDirectory(prefix="slimline-wrk-") as folder:
        (Path(folder) / "body").write_bytes(way.body)
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in way.headers.items()]
        lines += ['wrk.method = "POST"', f'wrk.body = io.open("{folder}/body", "rb"):read("*a")']
        (Path(folder) / "ask.lua").write_text("\n".join(lines))
        for each in (1, max(round(seconds), 1)):
            command = ["wrk", "-t1", f"-c{connections}", f"-d{each}s", "--latency", "-s", f"{folder}/ask.lua", way.url]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"{way.url} does not answer as it should:\n{said}")
    shares = {
        share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)% +([\d.]+)(us|ms|s)", said)
    }
    (rate,) = re.findall(r"Requests/sec: +([\d.]+)", said)
    return {"p50_ms": shares["50"], "p99_ms": shares["99"], "rate": float(rate)}


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
    rest, rpc, flow, floor_rest, floor_rpc = free_ports(5)
    begun = load_average()
    figures: dict[int, dict[str, list[dict[str, float]]]] = {count: {} for count in CONNECTIONS}
    with tempfile.TemporaryDirectory(prefix="slimline-bench-") as logs:
        ours = [sys.executable, "-m", "flows.cli", "serve", uri, "--http-port", str(rest), "--grpc-port", str(rpc)]
        theirs = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
        theirs += ["--port", str(flow), "--host", "127.0.0.1"]
        floor = [sys.executable, "-c", FLOOR, str(floor_rest), str(floor_rpc), str(y.nbytes)]
        with (
            server(ours, f"http://127.0.0.1:{rest}/v2/health/ready", Path(logs) / "slimline"),
            server(theirs, f"http://127.0.0.1:{flow}/ping", Path(logs) / "mlflow"),
            server(floor, f"http://127.0.0.1:{floor_rest}/", Path(logs) / "floor"),
        ):
            (name,) = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/models").read())["models"]
            metadata = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/models/{name}").read())
            version = {"x": x, "y": y, "name": name}
            version |= {"input": metadata["inputs"][0]["name"], "output": metadata["outputs"][0]["name"]}
            ports = {"rest": rest, "grpc": rpc, "mlflow": flow, "floor REST": floor_rest, "floor gRPC": floor_rpc}
            compared = ways(version, ports, call)
            for name, way in compared.items():
                if way.read:
                    compare_answers(y, way.read(way.connect()()).reshape(y.shape), name)
            for number in range(rounds):
                for count in CONNECTIONS:
                    for name, way in compared.items():
                        took = asked(way, count, seconds)
                        figures[count].setdefault(name, []).append(took)
                        p50, rate = took["p50_ms"], took["rate"]
                        print(
                            f"{number + 1}/{rounds} {count} {name}: p50 {p50:.3f} ms, {rate:,.0f} a second", flush=True
                        )
    machine = describe_machine(begun).model_dump(mode="json")
    client = "wrk over HTTP, and Python's gRPC" if shutil.which("wrk") else "Python's http.client and gRPC"
    about = {"uri": uri, "rounds": rounds, "seconds": seconds, "client": client, "machine": machine}
    return {**about, "figures": figures}


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
        f"{platform.system()}, Python {machine['python']}; client ({results['client']}) and server on the same cores. "
        "Median of the rounds (lowest to highest). The floor is uvicorn and gRPC with a constant for an answer.",
    ]
    for count, ways_of in results["figures"].items():
        theirs = ways_of[MLFLOW]
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
