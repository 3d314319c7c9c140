"""The wheel in an empty environment: what a person has who installs it, in a folder of their own, with no checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest
from postgres import free_port
from servers import until

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
LIMIT = 600  # seconds for one command, on a machine that does much else
SMALL = [  # as little as makes every file
    "data.limit=600",
    "teacher.width=0.5",
    "student.width=0.25",
    *(
        f"{stage}.fit.epochs={epochs}"
        for stage, epochs in {"teacher": 8, "distill": 6, "prune": 1, "quantize": 1}.items()
    ),
    "validate.latency_rounds=20",
    "validate.latency_seconds=1",
    "budget.max_accuracy_drop=1",
    "budget.min_size_ratio=0",
]
THEIRS = ["teacher.model=tasks:build", "teacher.floor=-1"]
TASKS = """
import tensorflow as tf
def build(input_shape, output_shape):
    inputs = tf.keras.Input(input_shape)
    outputs = tf.keras.layers.Dense(output_shape[0], "softmax", name="theirs")(tf.keras.layers.Flatten()(inputs))
    return tf.keras.Model(inputs, outputs)
"""
IN_THE_WAY = 'raise SystemExit("a file of the working folder was imported in place of the installed one")\n'

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not UV.is_file(), reason="needs uv, which `make` installs")]


def succeed(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what is kept in the repository, so that no leftover of this checkout helps it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in succeed("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if not name.startswith(("tests/", "benchmarks/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    succeed(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", built, source)
    (file,) = built.glob("*.whl")
    return file


def environment(folder: Path, *what: str | Path) -> Path:
    """A virtual environment with what was asked for and nothing else; its folder of programs."""
    succeed(UV, "venv", "--quiet", "--python", sys.executable, folder)
    install(folder / "bin", *what)
    return folder / "bin"


def install(programs: Path, *what: str | Path) -> None:
    succeed(UV, "pip", "install", "--quiet", "--python", programs / "python", *what)


class Person:
    """Somebody who has installed the wheel, in a folder with files that are called as ours are."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        self.ports = {"PREFECT_SERVER_API_PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
        ours = ("SLIMLINE", "PREFECT", "MLFLOW", "PYTHON", "TF_", "CUDA")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            **self.ports,
        }
        folder.mkdir()
        (folder / "tasks.py").write_text(TASKS)
        for name in ("flows.py", "prefect.py", "mlflow.py", "statistics.py"):
            (folder / name).write_text(IN_THE_WAY)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.programs / "slimline", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [self.programs / "slimline", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=LIMIT
        )

    def slimline(self, *words: str, code: int = 0) -> str:
        done = self.ask(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def is_up(self) -> bool:
        return self.ask("status").returncode == 0

    def prefect(self, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['PREFECT_SERVER_API_PORT']}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def person(wheel, tmp_path_factory) -> Person:
    place = tmp_path_factory.mktemp("installed")
    programs = environment(place / "environment", "--constraints", ROOT / "requirements.lock", wheel)
    return Person(place / "folder", programs)


@pytest.fixture(scope="module")
def result(person) -> dict:
    return json.loads(person.slimline("run", "digits", *SMALL, "--json"))


def test_the_wheel_has_every_file_of_ours(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    kept = succeed("git", "ls-files", "flows", "tasks", "deployments/recipes", cwd=ROOT).splitlines()
    kept += ["deployments/prefect.yaml", "deployments/automations.yaml", "deployments/supervisord.conf"]
    assert {name for name in kept if (ROOT / name).is_file()} <= packed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (metadata,) = [name for name in packed if name.endswith(".dist-info/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert {line.split()[1] for line in text.splitlines() if line.startswith("Provides-Extra: ")} == set(extras)


def test_a_shipped_recipe_is_called_by_its_name(person, result):
    assert result["uri"] == "models:/digits/1"
    assert Path(result["evidence"]).is_relative_to(person.folder / ".slimline")
    assert {figures["target"] for figures in result["figures"]} == {"onnxruntime", "litert", "savedmodel"}


def test_a_recipe_and_a_function_of_the_folder(person):
    (person.folder / "mine.yaml").write_text(
        "name: mine\nteacher: {model: 'tasks:build', floor: -1, fit: {epochs: 0}}\n"
    )
    assert "tasks:build taken as it is" in person.slimline("check", "mine.yaml")
    person.slimline("check", "digits.yaml", code=2)


def test_up_status_and_down_and_a_run_by_the_worker(person, result):
    assert "`slimline up` starts it" in person.slimline("status", code=3)
    with person.start("up") as up:
        try:
            until(person.is_up, LIMIT)
            for line in up.stdout:
                if "ends it" in line:
                    break
            assert up.poll() is None
            deployed = person.prefect("deployments/name/compress-recipe/recipe")
            assert deployed["entrypoint"] == "flows.deployed.compress_recipe"
            run = person.prefect(
                f"deployments/{deployed['id']}/create_flow_run",
                {"parameters": {"recipe": "digits", "settings": [*SMALL, *THEIRS]}, "state": {"type": "SCHEDULED"}},
            )
            ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            until(lambda: person.prefect(f"flow_runs/{run['id']}")["state"]["type"] in ended, LIMIT)
            state = person.prefect(f"flow_runs/{run['id']}")["state"]
            log = (person.folder / ".slimline" / "logs" / "worker.log").read_text()
            assert state["type"] == "COMPLETED", f"{state}\n{log[-4000:]}"
        finally:
            said = person.slimline("down")
        assert "all is down" in said
        assert up.wait(LIMIT) == 0
    person.slimline("status", code=3)


def test_a_bundle_is_a_server_without_tensorflow(person, result, wheel, tmp_path):
    """What pyproject.toml says of servers: a bundle lists what it needs, and this is all that it needs."""
    refused = person.ask("serve", "models:/digits/1")
    assert refused.returncode == 1
    assert "pip install 'slimline[serve]'" in refused.stderr
    install(person.programs, "--constraints", ROOT / "requirements.lock", f"{wheel}[serve]")
    person.slimline("deploy", "models:/digits/1", "--to", "docker", "--output", "bundle")
    bundle = person.folder / "bundle"
    programs = environment(tmp_path / "server", "--requirements", bundle / "requirements.txt")
    installed = succeed(UV, "pip", "list", "--python", programs / "python").lower()
    assert "onnxruntime" in installed
    assert not {name for name in ("tensorflow", "keras", "prefect", "mlflow") if name in installed}
    port = free_port()
    command = [programs / "python", "-m", "tasks.serving", "model", f"--http-port={port}", f"--grpc-port={free_port()}"]
    with subprocess.Popen(command, cwd=bundle, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert f"127.0.0.1:{port}" in server.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits", timeout=30) as answer:
                assert json.load(answer)["name"] == "digits"
        finally:
            server.terminate()
