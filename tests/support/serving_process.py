"""A server in a process of its own, as people start it, and folders for it to serve."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from postgres import free_port
from servers import until

from tasks.versions.manifest import write_manifest

ROOT = Path(__file__).parents[2]


class Server:
    """Where a server listens."""

    def __init__(self, process: "subprocess.Popen[str]", http: int, grpc: int, log: Path) -> None:
        self.process, self.log = process, log
        self.url = f"http://127.0.0.1:{http}"
        self.http, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5).status == 200
        except OSError:
            return False

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, command: list[str], **environment: str) -> Iterator[Server]:
    """Start `command` with free ports, and wait until it is ready."""
    http, grpc = free_port(), free_port()
    log = folder / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", *command, "--http-port", str(http), "--grpc-port", str(grpc)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=out,
            stderr=out,
        ) as process,
    ):
        server = Server(process, http, grpc, log)
        try:
            until(server.is_ready, 60)
            yield server
        finally:
            process.kill()


def laid_out(version: Path, folder: Path, number: int, name: str = "tiny") -> Path:
    """A version's folder as a bundle has it."""
    (folder / "evidence").mkdir(parents=True)
    for file in ("model.onnx", "labels.json", "sample.npz", "evidence/evidence.json"):
        shutil.copyfile(version / file, folder / file)
    write_manifest(folder, name=name, version=number)
    return folder


def question(x: np.ndarray, name: str) -> dict[str, Any]:
    """A request in JSON."""
    return {"inputs": [{"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}
