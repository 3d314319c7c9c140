"""The servers of deployments/docker/compose.yaml, started by its very command lines and environments, on loopback.

What differs from the containers: addresses, ports, the folder of the secrets, and that MLflow's artifacts go to a
folder instead of a bucket.
"""

import base64
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import compose_file
import postgres
import pytest

BIN = Path(sys.executable).parent
TIMEOUT = 120  # seconds until a server answers; it takes ten to twenty on two busy cores


class Shared:
    """PostgreSQL with the databases that compose.yaml makes, the secrets, and processes that end with the test."""

    def __init__(self, folder: Path, database: postgres.Cluster) -> None:
        self.folder, self.database, self.secrets = folder, database, folder / "secrets"
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run([compose_file.FOLDER / "make-secrets", self.secrets], check=True, capture_output=True)
        script = (compose_file.FOLDER / "databases.sql").read_text()
        (folder / "databases.sql").write_text(script.replace(compose_file.IN_CONTAINER, str(self.secrets)))
        psql = ["psql", "--no-psqlrc", "-d", database.url("postgres")]
        subprocess.run([*psql, "-f", folder / "databases.sql"], check=True, capture_output=True)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def environment(self, service: str, **changed: str) -> dict[str, str]:
        home = self.folder / f"home-{service}"
        home.mkdir(exist_ok=True)
        found = compose_file.environment(service, self.secrets, **changed)
        return {**found, "HOME": str(home), "PREFECT_HOME": str(home), "PATH": f"{BIN}:{found['PATH']}"}

    def start(self, service: str, command: list[str], **changed: str) -> None:
        with self.log(service).open("wb") as log:
            self.started[service] = subprocess.Popen(
                [compose_file.FOLDER / "with-secrets", *command],
                env=self.environment(service, **changed),
                cwd=compose_file.ROOT if service == "worker" else self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, service: str, command: list[str], **changed: str) -> str:
        done = subprocess.run(
            [compose_file.FOLDER / "with-secrets", *command],
            env=self.environment(service, **changed),
            cwd=compose_file.ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with self.log(service).open("a") as log:
            log.write(done.stdout + done.stderr)
        return done.stdout

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def await_that(self, true: Callable[[], bool], service: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not true():
            assert self.started[service].poll() is None, self.log(service).read_text()
            assert time.monotonic() < deadline, self.log(service).read_text()
            time.sleep(0.3)

    def stop(self) -> None:
        """The last one first, and each before the next, as compose does: a worker waits for a server that is gone."""
        try:
            for process in reversed(self.started.values()):
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)
        finally:
            for process in self.started.values():
                process.kill()


@contextmanager
def shared(folder: Path) -> Iterator[Shared]:
    with postgres.cluster() as database:
        servers = Shared(folder, database)
        try:
            yield servers
        finally:
            servers.stop()


def status(url: str, who: str = "", host: str = "", body: dict | None = None) -> int:
    """What a server answers; 0 if nothing listens."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None)
    request.add_header("Content-Type", "application/json")
    if who:
        request.add_header("Authorization", "Basic " + base64.b64encode(who.encode()).decode())
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def prepare() -> ModuleType:
    """deployments/docker/prepare.py, which is a program and no package's module."""
    spec = importlib.util.spec_from_file_location("prepare", compose_file.FOLDER / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def at(command: list[str], port: int) -> list[str]:
    """A command line of the compose file for loopback and a free port."""
    told = " ".join(command)
    for before in ("0.0.0.0", "--port 4200", "--port=5000"):
        told = told.replace(before, "127.0.0.1" if before == "0.0.0.0" else f"{before[:7]}{port}")
    return told.split()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> Iterator[tuple[Shared, str]]:
    """MLflow's server with users in it, and its address."""
    pytest.importorskip("flask_wtf", reason="MLflow's basic auth needs Flask-WTF: pip install mlflow[auth]")
    with shared(tmp_path_factory.mktemp("mlflow")) as servers:
        port = postgres.free_port()
        servers.start(
            "mlflow",
            at(compose_file.command("mlflow"), port),
            PGHOST="127.0.0.1",
            PGPORT=str(servers.database.port),
            MLFLOW_AUTH_CONFIG_PATH=str(compose_file.ROOT / "mlflow" / "basic_auth.ini"),
            MLFLOW_ARTIFACTS_DESTINATION=str(servers.folder / "artifacts"),
        )
        address = f"http://127.0.0.1:{port}"
        servers.await_that(lambda: status(f"{address}/health") == 200, "mlflow")
        yield servers, address


@pytest.fixture(scope="module")
def worker_in_mlflow(mlflow) -> str:
    """The user that workers are, as prepare.py makes it; a second time changes nothing."""
    servers, address = mlflow
    admin, worker = ("admin", servers.secret("mlflow_admin")), ("worker", servers.secret("mlflow_worker"))
    for _ in range(2):
        prepare().make_user(address, admin, worker)
    return ":".join(worker)


def test_mlflow_asks_who_it_is(mlflow, worker_in_mlflow):
    servers, address = mlflow
    experiments = f"{address}/api/2.0/mlflow/experiments/search?max_results=5"
    assert status(experiments) == 401
    assert status(experiments, "admin:password1234") == 401
    assert status(experiments, "worker:" + servers.secret("mlflow_admin")) == 401
    assert status(experiments, "admin:" + servers.secret("mlflow_admin")) == 200
    assert status(experiments, worker_in_mlflow) == 200
    users = f"{address}/api/2.0/mlflow/users/get?username=admin"
    assert status(users, worker_in_mlflow) == 403, "a worker is no administrator"


def test_mlflow_answers_to_its_names_only(mlflow, worker_in_mlflow):
    _, address = mlflow
    experiments = f"{address}/api/2.0/mlflow/experiments/search?max_results=5"
    for host, answer in (("mlflow:5000", 200), ("localhost:5000", 200), ("evil.example", 403), ("10.0.0.7:5000", 403)):
        assert status(experiments, worker_in_mlflow, host) == answer, host
    assert status(f"{address}/health", host="10.0.0.7:5000") == 200, "a health check knows no name"


def test_artifacts_of_a_worker_travel_through_mlflow(mlflow, worker_in_mlflow):
    servers, address = mlflow
    program = (
        "import mlflow\n"
        "from tasks.store import tracking\n"
        "run = tracking.start_run('shared', {}, {'width': '0.5'})\n"
        "tracking.log_text(run, 'seen everywhere', 'note.txt')\n"
        "tracking.end_run(run, failed=False)\n"
        "print(tracking.client().get_run(run).info.artifact_uri)\n"
        "print(open(mlflow.artifacts.download_artifacts(run_id=run, artifact_path='note.txt')).read())\n"
    )
    where, text = servers.run("worker", [sys.executable, "-c", program], MLFLOW_TRACKING_URI=address).splitlines()
    assert where.startswith("mlflow-artifacts:/"), "an address of the proxy, not of a disk or of the store"
    assert text == "seen everywhere"
    (kept,) = (servers.folder / "artifacts").rglob("note.txt")
    assert kept.read_text() == "seen everywhere"
    assert servers.database.execute("SELECT status FROM runs WHERE name = 'shared'", "mlflow") == [("FINISHED",)]


def test_a_server_opens_no_other_server_s_database(mlflow):
    import psycopg2

    servers, _ = mlflow
    role = postgres.Cluster(servers.database.port, servers.secret("postgres_mlflow"), "mlflow")
    assert role.execute("SELECT count(*) FROM experiments", "mlflow") != [(0,)]
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        role.execute("SELECT 1", "prefect")


def test_a_password_is_rotated_by_preparing_again(mlflow, worker_in_mlflow):
    servers, address = mlflow
    experiments = f"{address}/api/2.0/mlflow/experiments/search?max_results=5"
    admin = ("admin", servers.secret("mlflow_admin"))
    prepare().make_user(address, admin, ("worker", "another-password-of-the-worker"))
    try:
        assert status(experiments, worker_in_mlflow) == 401
        assert status(experiments, "worker:another-password-of-the-worker") == 200
    finally:
        prepare().make_user(address, admin, tuple(worker_in_mlflow.split(":")))
    with pytest.raises(SystemExit, match="answered 401"):
        prepare().make_user(address, ("admin", "wrong"), ("worker", "another-password-of-the-worker"))


def test_mlflow_keeps_no_password_and_logs_none(mlflow, worker_in_mlflow):
    servers, _ = mlflow
    rows = servers.database.execute("SELECT username, password_hash FROM users ORDER BY username", "mlflow_auth")
    assert [name for name, _ in rows] == ["admin", "worker"]
    assert_no_secret_in_logs(servers, "mlflow")
    for name in ("mlflow_admin", "mlflow_worker"):
        assert not any(servers.secret(name) in hashed for _, hashed in rows)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory) -> Iterator[tuple[Shared, str]]:
    """Prefect's API and its services, two processes on PostgreSQL and Redis, and the API's address."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with shared(tmp_path_factory.mktemp("prefect")) as servers:
        redis, port = postgres.free_port(), postgres.free_port()
        told = [part.replace(compose_file.IN_CONTAINER, str(servers.secrets)) for part in compose_file.command("redis")]
        here = ["--port", str(redis), "--bind", "127.0.0.1", "--dir", str(servers.folder)]
        servers.started["redis"] = subprocess.Popen([*told, *here], stdout=servers.log("redis").open("wb"))
        url = servers.secrets / "redis_url"
        address = url.read_text().replace("@redis:6379", f"@127.0.0.1:{redis}")
        url.unlink()
        url.write_text(address)
        reached = {
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(servers.database.port),
            "PREFECT_UI_STATIC_DIRECTORY": str(servers.folder / "ui"),
        }
        servers.start("prefect", at(compose_file.command("prefect"), port), **reached)
        api = f"http://127.0.0.1:{port}/api"
        servers.await_that(lambda: status(f"{api}/health") == 200, "prefect")
        servers.start("prefect-services", compose_file.command("prefect-services"), **reached)
        yield servers, api


def test_redis_lets_nobody_in_but_prefect(prefect):
    import redis

    servers, _ = prefect
    url = servers.secret("redis_url")
    known = redis.Redis.from_url(url)
    assert known.ping()
    nobody = redis.Redis(port=known.connection_pool.connection_kwargs["port"])
    assert nobody.ping(), "which is what the health check asks"
    with pytest.raises(redis.exceptions.NoPermissionError):
        nobody.keys("*")


def test_prefect_asks_who_it_is(prefect):
    servers, api = prefect
    secret = servers.secret("prefect_auth")
    assert status(f"{api}/flows/filter", body={}) == 401
    assert status(f"{api}/flows/filter", "slimline:wrong", body={}) == 401
    assert status(f"{api}/flows/filter", secret, body={}) == 200
    assert status(f"{api}/health") == 200
    assert status(api.removesuffix("/api")) == 200, "its page asks for the password itself"


def test_what_is_installed_is_scheduled_by_the_services(prefect):
    servers, api = prefect
    servers.run("install", compose_file.command("install"), PREFECT_API_URL=api)
    secret = servers.secret("prefect_auth")

    def scheduled() -> bool:
        request = urllib.request.Request(f"{api}/flow_runs/count", b"{}", {"Content-Type": "application/json"})
        request.add_header("Authorization", "Basic " + base64.b64encode(secret.encode()).decode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.read()) > 0

    servers.await_that(scheduled, "prefect-services")
    pools = servers.database.execute("SELECT name, type FROM work_pool", "prefect")
    assert pools == [("slimline", "process")]
    deployed = servers.database.execute("SELECT name, entrypoint FROM deployment ORDER BY name", "prefect")
    assert ("recipe", "flows.deployed.compress_recipe") in deployed


def test_prefect_takes_the_job_template_of_kubernetes(prefect):
    servers, api = prefect
    file = compose_file.ROOT / "deployments" / "kubernetes" / "job_template.json"
    create = ["prefect", "work-pool", "create", "pods", "--type", "kubernetes", "--base-job-template", str(file)]
    servers.run("install", create, PREFECT_API_URL=api)
    ((kept,),) = servers.database.execute("SELECT base_job_template FROM work_pool WHERE name = 'pods'", "prefect")
    assert kept == json.loads(file.read_text())
    servers.run("install", ["prefect", "work-pool", "delete", "pods", "--no-prompt"], PREFECT_API_URL=api)


def test_a_worker_says_that_it_is_well(prefect):
    servers, api = prefect
    port = postgres.free_port()
    # the command of the image, which the compose file leaves as it is
    dockerfile = (compose_file.FOLDER / "Dockerfile").read_text()
    command = json.loads(dockerfile.rsplit("\nCMD ", 1)[1].split("\n", 1)[0])
    servers.start(
        "worker",
        command,
        PREFECT_API_URL=api,
        PREFECT_WORKER_WEBSERVER_HOST="127.0.0.1",
        PREFECT_WORKER_WEBSERVER_PORT=str(port),
    )
    servers.await_that(lambda: status(f"http://127.0.0.1:{port}/health") == 200, "worker")
    servers.await_that(lambda: bool(servers.database.execute("SELECT id FROM worker", "prefect")), "worker")


def test_prefect_uses_redis_and_logs_no_secret(prefect):
    import redis

    servers, _ = prefect
    keys = {key.decode() for key in redis.Redis.from_url(servers.secret("redis_url")).keys("*")}
    assert any(key.startswith("prefect-server:") for key in keys), f"its timed services, of {sorted(keys)}"
    assert any("events" in key for key in keys), f"its events, of {sorted(keys)}"
    assert_no_secret_in_logs(servers, "prefect", "prefect-services", "install", "worker")


def assert_no_secret_in_logs(servers: Shared, *services: str) -> None:
    values = [servers.secret(file.name) for file in servers.secrets.iterdir()]
    assert len(values) > 10
    assert any(servers.log(service).read_text() for service in services)
    for service in services:
        log = servers.log(service).read_text()
        assert not [value for value in values if value.split(":")[-1] in log], service
