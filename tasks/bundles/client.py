"""A bundle's own server, started on loopback and asked by clients of the Open Inference Protocol."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.trial import TrialConfig, TrialResult, timed
from tasks.contract import child
from tasks.contract.errors import PortTaken, ServerFailed, SlimlineError
from tasks.contract.named import Array, by_name, packed
from tasks.versions.recorded_answers import compare_answers

PATIENCE = 120  # seconds until a server that is not ready has failed


def ask(
    folder: Path, model: Path, name: str, sample: Mapping[str, Array], config: TrialConfig, measured: float
) -> TrialResult:
    """Start the server from a bundle's own code on loopback, and ask it through `tritonclient` by gRPC and by REST.

    Args:
        folder: holds the code, `tasks/serving` and what it imports; nothing else of ours is seen.
        model: the folder that is served.
        name: the model's in the protocol.
        sample: `examples` `(n, …)` and what `onnxruntime` answered to them.
        config: how often, and how fast it has to be.
        measured: the evidence's median latency in process, in milliseconds.

    Raises:
        PortTaken, ServerFailed: it does not come up, or not stay up.
        SmokeTestFailed: it answers otherwise than was recorded.

    """
    examples, recorded = sample["examples"], sample["onnxruntime"]
    latency, away = {}, 0.0
    with running(folder, model, config) as (ports, process):
        for way, client in _clients(ports).items():
            try:
                call = _caller(way, client, name)
                who = f"the server, asked by {way},"
                away = max(away, compare_answers(recorded, call(examples), who))
                one_by_one = np.concatenate([call(examples[row : row + 1]) for row in range(len(examples))])
                away = max(away, compare_answers(recorded, one_by_one, who))
                latency[way] = timed(lambda: call(examples[:1]), config.requests)  # noqa: B023  called in this turn
            except SlimlineError:
                raise
            except Exception as error:  # the clients' own exceptions, which share no class
                raise ServerFailed(
                    f"the bundle's server did not answer by {way}: {' '.join(str(error).split())[:300]}"
                    f"{_died(process)}: start it by hand with the README's command, and look at what it says"
                ) from error
            finally:
                client.close()
    return TrialResult(
        server="Slimline's server",
        server_run=True,
        ran="the server, from the bundle's own code on loopback, asked by tritonclient",
        examples=len(examples),
        largest_difference=away,
        latency_p50_ms=latency,
        measured_p50_ms=measured,
    )


@contextmanager
def running(folder: Path, model: Path, config: TrialConfig) -> Iterator[tuple[dict[str, int], "subprocess.Popen[str]"]]:
    """The server of a bundle while the block lasts; gives its ports by way, and the process.

    Raises:
        PortTaken: another program has one of the ports.
        ServerFailed: it died, or is not ready in time.

    """
    ports = {
        "gRPC": free_port("trial.grpc_port", config.grpc_port),
        "REST": free_port("trial.http_port", config.http_port),
    }
    where = ["--host", "127.0.0.1", "--http-port", str(ports["REST"]), "--grpc-port", str(ports["gRPC"])]
    command = [sys.executable, *child.words("tasks.serving", str(model), *where)]
    # neither our own code nor its settings: what it needs has to be in the bundle
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = {**passed, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    with (
        (folder / "server.log").open("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(  # noqa: S603  our own interpreter
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            _await(process, ports, folder / "server.log")
            yield ports, process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port(field: str, port: int) -> int:
    """A port on loopback that nobody listens on: this one, or any if it is 0.

    Raises:
        PortTaken: somebody does.

    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTaken(
                field, port, f"cannot be listened on ({error.strerror}): take 0 for any free one, or end what has it"
            ) from error
        return int(probe.getsockname()[1])


def _await(process: "subprocess.Popen[str]", ports: Mapping[str, int], log: Path) -> None:
    import urllib.request

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:] or ["nothing"]
            raise ServerFailed(
                f"the bundle's server ended at once (exit code {process.returncode}). It said: {' / '.join(lines)}"
            )
        try:
            address = f"http://127.0.0.1:{ports['REST']}/v2/health/ready"
            with urllib.request.urlopen(address, timeout=5), socket.create_connection(("127.0.0.1", ports["gRPC"]), 5):
                return  # what is not ready answers with an error, which is raised
        except OSError:  # urllib's are among them
            time.sleep(0.2)
    raise ServerFailed(
        f"the bundle's server was not ready within {PATIENCE} s: start it by hand with the README's command"
    )


def _died(process: "subprocess.Popen[str]") -> str:
    code = process.poll()
    return "" if code is None else f" (it died with exit code {code})"


def _clients(ports: Mapping[str, int]) -> dict[str, Any]:
    """Clients that we did not write, by way.

    The server is never in this process: KServe's messages and these clients' have the same names, and no process takes
    both.
    """
    return {way: library.InferenceServerClient(f"127.0.0.1:{ports[way]}") for way, library in libraries().items()}


def libraries() -> dict[str, Any]:
    """The modules of `tritonclient`, by way.

    Raises:
        ServerFailed: it is not installed.

    """
    try:
        import tritonclient.grpc
        import tritonclient.http
    except ImportError as error:
        raise ServerFailed(
            f"no bundle can be tried without tritonclient ({error}): pip install 'slimline[serve]'"
        ) from error
    return {"gRPC": tritonclient.grpc, "REST": tritonclient.http}


def _caller(way: str, client: Any, name: str) -> Callable[[Array], Array]:
    """A function from examples to answers, which takes names and types from what the server says of itself."""
    library = libraries()[way]
    metadata = client.get_model_metadata(name, **({"as_json": True} if way == "gRPC" else {}))
    types = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    gives = [tensor["name"] for tensor in metadata["outputs"]]

    def call(examples: Array) -> Array:
        tensors = []
        for taken, values in by_name(examples, list(types)).items():
            tensors.append(library.InferInput(taken, list(values.shape), types[taken]))
            tensors[-1].set_data_from_numpy(values)
        answers = client.infer(name, tensors, outputs=list(map(library.InferRequestedOutput, gives)))
        return packed({given: answers.as_numpy(given) for given in gives})

    return call
