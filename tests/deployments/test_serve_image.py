"""The image that serves: started from its package list by the Kubernetes manifest's own command, store and probes."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path

import compose_file
import pytest
import yaml
from keys import write_key
from postgres import free_port
from registered import EVERY_TARGET, version_folder, versions
from servers import until

ROOT = compose_file.ROOT
(CONTAINER,) = next(yaml.safe_load_all((ROOT / "deployments" / "kubernetes" / "serve.yaml").read_text()))["spec"][
    "template"
]["spec"]["containers"]
DOCKERFILE = (compose_file.FOLDER / "Dockerfile").read_text()
(PACKAGES,) = re.findall(r"AS serve-venv\nRUN uv pip install --constraints requirements\.lock (.+)", DOCKERFILE)
KEY = "0123456789abcdef0123456789abcdef"
# Python runs this first in every process: modules of what the image has not are not there.
WITHOUT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *where):
        return None if name.split(".")[0] in {missing} else self.finder.find_spec(name, *where)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder, "ours")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory, prefect_server, empty_store, keys) -> Iterator[str]:
    """MLflow's server with two signed versions of a model, of the same files; gives its address."""
    from tasks.contract.artifact import digest_file
    from tasks.store import registry, tracking
    from tasks.versions.manifest import MANIFEST
    from tasks.versions.registered import MANIFEST_TAG
    from tasks.versions.signature import PRIVATE_KEY, sign
    from tasks.versions.version import MLFLOW_NOTE, SIGNATURE

    home = tmp_path_factory.mktemp("state")
    folder = version_folder(tmp_path_factory, empty_store, EVERY_TARGET)
    (folder / MLFLOW_NOTE).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PRIVATE_KEY, str(keys / "ours.pem"))
        sign(folder, folder / SIGNATURE)
    tags = {"slimline.content": "1", MANIFEST_TAG: digest_file(folder / MANIFEST)}
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", url.rpartition(":")[2], "--workers", "1"]
    with versions(home, empty_store):
        for _ in range(2):
            registry.register(tracking.start_run("register", {}, {}), "tiny", folder, tags, {}, "", "")
        with subprocess.Popen([*command, "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]) as process:
            try:
                until(lambda: ask(f"{url}/health")[0] == 200, 120)
                yield url
            finally:
                process.terminate()


def ask(url: str, key: str = "", body: dict | None = None, **headers: str) -> tuple[int, bytes]:
    """A server's status and answer; 0 if nothing listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()})
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@contextmanager
def pod(folder: Path, store: str, python: Path, key: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The container's command as Kubernetes fills it in, on loopback; gives its address, and its process."""
    entries = {entry["name"]: entry.get("value", "a password") for entry in CONTAINER["env"]}
    entries |= {"VERSION": entries["VERSION"].replace("digits", "tiny"), "MLFLOW_TRACKING_URI": store}
    (folder / "keys").write_text(f"{KEY}\n")
    (folder / "tmp").mkdir()
    (folder / "nothing").mkdir()
    places = {"0.0.0.0": "127.0.0.1", "/run/keys/keys": str(folder / "keys")}
    told = [re.sub(r"\$\((\w+)\)", lambda match: entries[match[1]], text) for text in CONTAINER["args"]]
    assert set(places) <= set(told)
    command = [str(python), "-m", "flows.cli", *(places.get(text, text) for text in told[1:]), "--watch=0.2"]
    port = free_port()
    environment = {**entries, "PATH": "/usr/bin:/bin", "HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    environment |= {
        "SLIMLINE_PUBLIC_KEY": str(key),
        "SLIMLINE_HOME": str(folder / "tmp" / "slimline"),
        "PYTHONPATH": f"{folder / 'without'}:{ROOT}",
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, f"--http-port={port}", f"--grpc-port={free_port()}"],
            env=environment,
            cwd=folder / "nothing",
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.fixture(params=["blocked", pytest.param("installed", marks=pytest.mark.slow)])
def python(request, tmp_path) -> Path:
    """A Python that has what the image's list brings: this one without all else, or an environment of its own."""
    (tmp_path / "without").mkdir()
    if request.param == "installed":
        uv = Path(sys.executable).parent / "uv"
        installed = tmp_path / "environment"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, installed], check=True)
        words = ["--constraints", ROOT / "requirements.lock", *PACKAGES.split()]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", installed / "bin" / "python", *words], check=True)
        return installed / "bin" / "python"
    from tasks.bundles.server import pinned

    there = {*pinned(PACKAGES.split()), "slimline"}
    provided = {
        module: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        for module, names in packages_distributions().items()
    }
    missing = {module for module, names in provided.items() if not names & there}
    assert {"tensorflow", "prefect", "sqlalchemy", "sklearn", "keras"} <= missing
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT.format(missing=missing))
    return Path(sys.executable)


def test_it_serves_by_the_manifest_and_follows_the_alias(store, keys, python, tmp_path):
    from tasks.store import registry

    registry.set_alias("tiny", registry.CHAMPION, 1)
    probes = {kind: CONTAINER[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    with pod(tmp_path, store, python, keys / "ours.pub") as (url, process):

        def ready() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            return ask(url + probes["startupProbe"])[0] == 200

        until(ready, 120)
        assert [ask(url + path)[0] for path in probes.values()] == [200] * 3, "a probe has no key"
        assert ask(f"{url}/v2/models/tiny")[0] == 401
        about = json.loads(ask(f"{url}/v2/models/tiny", KEY)[1])
        assert about["versions"] == ["1"]
        question = {"name": about["inputs"][0]["name"], "shape": [1, 8, 8, 1], "datatype": "FP32", "data": [0.5] * 64}
        status, answer = ask(f"{url}/v2/models/tiny/infer", KEY, {"inputs": [question]})
        assert status == 200, answer
        page = ask(f"{url}/docs", KEY, Host="models.example.org", X_Forwarded_Proto="https")[1].decode()
        assert "curl https://models.example.org/v2/models/tiny/infer" in page, "as the proxy is called"
        registry.set_alias("tiny", registry.CHAMPION, 2)
        until(lambda: json.loads(ask(f"{url}/v2/models/tiny", KEY)[1])["versions"] == ["2"], 60)
        process.terminate()
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


def test_with_a_key_in_its_environment_it_opens_what_that_one_signed_and_nothing_else(store, keys, python, tmp_path):
    from tasks.store import registry

    registry.set_alias("tiny", registry.CHAMPION, 1)
    write_key(tmp_path, "theirs")
    with pod(tmp_path, store, python, tmp_path / "theirs.pub") as (_, process):
        assert process.wait(120) == 1
    said = " ".join((tmp_path / "log").read_text().split())
    assert "models:/tiny/1 is not signed by the key in SLIMLINE_PUBLIC_KEY" in said
